/* Reading hexadecimal digits. */
#ifndef HEADRACE_HEXADECIMAL_H
#define HEADRACE_HEXADECIMAL_H

static const signed char HEX_VALUES[256] = {
    ['0'] = 1, ['1'] = 2, ['2'] = 3, ['3'] = 4, ['4'] = 5,
    ['5'] = 6, ['6'] = 7, ['7'] = 8, ['8'] = 9, ['9'] = 10,
    ['a'] = 11, ['b'] = 12, ['c'] = 13, ['d'] = 14, ['e'] = 15, ['f'] = 16,
    ['A'] = 11, ['B'] = 12, ['C'] = 13, ['D'] = 14, ['E'] = 15, ['F'] = 16,
};

/* The value of a hexadecimal digit, -1 for any other character. */
static inline int hex_digit(char character) { return HEX_VALUES[(unsigned char)character] - 1; }

#endif
