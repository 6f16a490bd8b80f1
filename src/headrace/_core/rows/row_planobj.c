/* Objects of a class of the caller's own, and dictionaries, filled from outside.
 *
 * The interpreter keeps the attributes of an ordinary object in an array of its own, the inline values, each at a place
 * that all objects of the class share; and a dictionary keeps its values beside its keys, in the order of these. No public
 * function writes there, and to set an attribute by name costs a search in the class and another in its keys, to set a
 * key one in the dictionary. So the places of attributes are learnt from one object that is filled by name, and those of
 * keys are their order in a dictionary that is copied; what the others get is written there. For attributes that is what
 * _PyObject_StoreInstanceAttribute() does in Objects/dictobject.c. All goes through the accessors of the interpreter's own
 * headers, and only in versions in which they are known to be what is used here; in any other everything is set by name.
 */

#include <patchlevel.h>
#include <pyconfig.h>

#if PY_VERSION_HEX < 0x030C0000 || (PY_VERSION_HEX >= 0x030D0000 && PY_VERSION_HEX < 0x03100000 && !defined(Py_GIL_DISABLED))
    #define KNOWN_LAYOUT 1
    #define Py_BUILD_CORE 1 /* asks for the internal headers */
    #include <Python.h>
    #include <internal/pycore_object.h>
    #include <internal/pycore_dict.h>
#else
    #define KNOWN_LAYOUT 0
#endif

#include "row_planobj.h"

#ifdef Py_T_OBJECT_EX
    #define OBJECT_MEMBER Py_T_OBJECT_EX
    #define READONLY_MEMBER Py_READONLY
#else /* before Python 3.12 */
    #include <structmember.h>
    #define OBJECT_MEMBER T_OBJECT_EX
    #define READONLY_MEMBER READONLY
#endif

const int KNOWS_LAYOUT = KNOWN_LAYOUT;

#if KNOWN_LAYOUT

/* The values of an object whose attributes are in no dictionary, NULL for any other. */
static inline PyDictValues *inline_values(PyObject *object)
{
#if PY_VERSION_HEX < 0x030C0000
    return Py_TYPE(object)->tp_flags & Py_TPFLAGS_MANAGED_DICT ? *_PyObject_ValuesPointer(object) : NULL;
#else
    if (!(Py_TYPE(object)->tp_flags & Py_TPFLAGS_INLINE_VALUES)) {
        return NULL;
    }
    PyDictValues *values = _PyObject_InlineValues(object);
    return values->valid ? values : NULL;
#endif
}

/* The place of the attribute that was set last. */
static inline Py_ssize_t last_place(PyDictValues *values)
{
#if PY_VERSION_HEX < 0x030C0000
    const uint8_t *count = (const uint8_t *)values - 2;
    return *count ? count[-*count] : BY_NAME;
#else
    return values->size ? get_insertion_order_array(values)[values->size - 1] : BY_NAME;
#endif
}

/* The place of the attribute that was just set to `value`, BY_NAME where it did not go among the inline values. */
static Py_ssize_t place_of(PyObject *object, PyObject *value)
{
    PyDictValues *values = inline_values(object);
    Py_ssize_t place = values == NULL ? BY_NAME : last_place(values);
    return place != BY_NAME && values->values[place] == value ? place : BY_NAME;
}

static inline void put(PyDictValues *values, Py_ssize_t place, PyObject *value)
{
    values->values[place] = value;
    _PyDictValues_AddToInsertionOrder(values, place);
}

/* The keys and values of a dictionary of `count` keys, all of them str and none removed; NULL of any other. */
static inline PyDictUnicodeEntry *entries_of(PyObject *dict, Py_ssize_t count)
{
    PyDictKeysObject *keys = ((PyDictObject *)dict)->ma_keys;
    int known = ((PyDictObject *)dict)->ma_values == NULL && DK_IS_UNICODE(keys) && keys->dk_nentries == count;
    return known && PyDict_GET_SIZE(dict) == count ? DK_UNICODE_ENTRIES(keys) : NULL;
}

#else

typedef struct { PyObject *me_value; } PyDictUnicodeEntry;

static inline PyDictValues *inline_values(PyObject *Py_UNUSED(object))
{
    return NULL;
}

static Py_ssize_t place_of(PyObject *Py_UNUSED(object), PyObject *Py_UNUSED(value))
{
    return BY_NAME;
}

static inline void put(PyDictValues *Py_UNUSED(values), Py_ssize_t Py_UNUSED(place), PyObject *Py_UNUSED(value))
{
}

static inline PyDictUnicodeEntry *entries_of(PyObject *Py_UNUSED(dict), Py_ssize_t Py_UNUSED(count))
{
    return NULL;
}

#endif

PyObject *bare_object(PyTypeObject *cls)
{
    static PyObject *nothing = NULL;
    if (nothing == NULL && (nothing = PyTuple_New(0)) == NULL) {
        return NULL;
    }
    return PyBaseObject_Type.tp_new(cls, nothing, NULL);
}

/* The offset of the slot that an attribute of `cls` is in; BY_NAME where `descriptor` stands for anything else. */
static Py_ssize_t slot_of(PyTypeObject *cls, PyObject *descriptor)
{
    const PyMemberDef *member;
    if (descriptor == NULL || !Py_IS_TYPE(descriptor, &PyMemberDescr_Type) || !PyType_IsSubtype(cls, PyDescr_TYPE(descriptor))) {
        return BY_NAME;
    }
    member = ((PyMemberDescrObject *)descriptor)->d_member;
    return member->type == OBJECT_MEMBER && !(member->flags & READONLY_MEMBER) ? member->offset : BY_NAME;
}

/* Set an attribute by name, to an object that no other has, and find where it went. */
static int learn_place(PyObject *object, Attribute *attribute)
{
    PyObject *value = PyObject_CallNoArgs((PyObject *)&PyBaseObject_Type);
    if (value == NULL || PyObject_GenericSetAttr(object, attribute->name, value) < 0) {
        Py_XDECREF(value);
        return -1;
    }
    attribute->place = place_of(object, value);
    Py_DECREF(value);
    return 0;
}

void attributes_learn(PyTypeObject *cls, Attribute *attributes, Py_ssize_t count)
{
    /* A finalizer is not to see an object of ours. */
    PyObject *object = cls->tp_finalize == NULL ? bare_object(cls) : NULL;
    int all = object != NULL;
    Py_ssize_t i;
    for (i = 0; i < count; i++) {
        PyObject *descriptor = _PyType_Lookup(cls, attributes[i].name);
        attributes[i].slot = slot_of(cls, descriptor);
        attributes[i].place = BY_NAME;
        if (all && attributes[i].slot == BY_NAME) {
            /* Nor is a descriptor that does something else with what it is given. */
            all = descriptor == NULL || Py_TYPE(descriptor)->tp_descr_set == NULL;
            all = all && learn_place(object, &attributes[i]) == 0 && attributes[i].place != BY_NAME;
        }
    }
    for (i = 0; i < count && !all; i++) {
        attributes[i].place = BY_NAME;
    }
    Py_XDECREF(object);
    PyErr_Clear(); /* What cannot be done here fails with the first row. */
}

PyObject *attributes_make(PyTypeObject *cls, const Attribute *attributes, Py_ssize_t count, PyObject **values)
{
    PyObject *made = bare_object(cls);
    PyDictValues *inside = made == NULL ? NULL : inline_values(made);
    for (Py_ssize_t i = 0; made != NULL && i < count; i++) {
        const Attribute *attribute = &attributes[i];
        PyObject **value = &values[attribute->column];
        if (attribute->slot != BY_NAME) {
            *(PyObject **)((char *)made + attribute->slot) = *value;
            *value = NULL;
        }
        else if (attribute->place != BY_NAME && inside != NULL) {
            put(inside, attribute->place, *value);
            *value = NULL;
        }
        else if (PyObject_GenericSetAttr(made, attribute->name, *value) < 0) {
            Py_CLEAR(made);
        }
    }
    return made;
}

PyObject *dict_make(PyObject *model, PyObject *keys, PyObject **values)
{
    /* A copy has its final size at once: that costs less than to let a new dictionary grow. */
    PyObject *made = PyDict_Copy(model);
    Py_ssize_t count = PyTuple_GET_SIZE(keys);
    PyDictUnicodeEntry *entries = made == NULL ? NULL : entries_of(made, count);
    for (Py_ssize_t i = 0; made != NULL && i < count; i++) {
        if (entries != NULL) {
            /* The collector looks at no dictionary that holds simple values alone. */
            if (PyObject_IS_GC(values[i]) && !PyObject_GC_IsTracked(made)) {
                PyObject_GC_Track(made);
            }
            Py_SETREF(entries[i].me_value, values[i]);
            values[i] = NULL;
        }
        else if (PyDict_SetItem(made, PyTuple_GET_ITEM(keys, i), values[i]) < 0) {
            Py_CLEAR(made);
        }
    }
    return made;
}
