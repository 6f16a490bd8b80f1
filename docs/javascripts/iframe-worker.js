// Browsers do not start workers for pages that are files. The search of the site runs in one, so on a page that is a
// file this class takes the place of Worker: it runs the worker's script in a hidden frame.
if (location.protocol === "file:") {
  window.IFrameWorker = class IFrameWorker extends EventTarget {
    constructor(url) {
      super();
      this.ready = new Promise((resolve) => {
        const frame = document.createElement("iframe");
        frame.hidden = true;
        frame.title = "search";
        frame.srcdoc = "<!doctype html><title>search</title>";
        frame.addEventListener("load", () => resolve(this.start(frame.contentWindow, url)), { once: true });
        document.body.append(frame);
      });
    }

    // Give the frame what a worker's script expects, and load the script.
    async start(scope, url) {
      const load = (source) =>
        new Promise((resolve, reject) => {
          const script = scope.document.createElement("script");
          script.src = source;
          script.onload = resolve;
          script.onerror = () => reject(new Error(`cannot load ${source}`));
          scope.document.head.append(script);
        });
      scope.postMessage = (data) => this.dispatchEvent(new MessageEvent("message", { data }));
      scope.importScripts = async (...sources) => {
        for (const source of sources) await load(source);
      };
      await load(url);
      return scope;
    }

    postMessage(data) {
      this.ready.then((scope) => scope.dispatchEvent(new MessageEvent("message", { data })));
    }

    terminate() {
      this.ready.then((scope) => scope.frameElement.remove());
    }
  };
  window.Worker = window.IFrameWorker;
}
