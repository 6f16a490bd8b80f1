// Keeps a page up to date by server-sent events. Without this file the page reloads itself, or is reloaded by hand.
//
// An element with data-events="ADDRESS" is kept up to date. Each event has an object: "fields" are texts for the
// elements with data-field, "values" numbers for progress bars with data-value, "curves" points for data-curve,
// and "kind" is the class of the element with data-kind.
"use strict";

for (const root of document.querySelectorAll("[data-events]")) {
  const source = new EventSource(root.dataset.events);

  const update = (name, change, values) => {
    for (const [key, value] of Object.entries(values ?? {})) {
      for (const element of root.querySelectorAll(`[data-${name}="${CSS.escape(key)}"]`)) {
        change(element, value);
      }
    }
  };

  source.addEventListener("update", (event) => {
    const news = JSON.parse(event.data);
    if (news.layout !== undefined && news.layout !== root.dataset.layout) {
      location.reload();
      return;
    }
    update("field", (element, text) => {
      if (element.textContent !== text) {
        element.textContent = text;
      }
    }, news.fields);
    update("value", (element, number) => (element.value = number), news.values);
    update("curve", (element, points) => element.setAttribute("points", points), news.curves);
    update("kind", (element, kind) => (element.className = `state ${kind}`), news.kinds);
  });

  source.addEventListener("end", () => {
    source.close();
    location.reload();
  });

  // A browser connects again by itself, unless the service has refused.
  source.addEventListener("error", () => {
    if (source.readyState === EventSource.CLOSED) {
      setTimeout(() => location.reload(), 10_000);
    }
  });
}
