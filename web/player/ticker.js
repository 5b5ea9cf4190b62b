// A clock that goes on in hidden tabs: timers of workers are not slowed down as those of pages are.

const WORKER = new URL("./tick-worker.js", import.meta.url);

const ofFile = () => new Worker(WORKER);

function ofBlob() {
  const source = "onmessage=({data})=>setInterval(()=>postMessage(0),data)";
  const url = URL.createObjectURL(new Blob([source], { type: "text/javascript" }));
  const worker = new Worker(url);
  URL.revokeObjectURL(url);
  return worker;
}

/** Calls `call` every so many milliseconds until the returned function is called.
 * @param {() => void} call @param {number} everyMs */
export function tick(call, everyMs) {
  // A worker must come from the page's own origin, bundlers may leave its file behind, and a content security policy
  // may forbid blobs. Without a worker the timeline keeps more in hand when hidden.
  const ways = WORKER.origin === location.origin ? [ofFile, ofBlob] : [ofBlob];
  /** @type {Worker | null} */ let worker = null;
  /** @type {ReturnType<typeof setInterval> | undefined} */ let timer;
  let stopped = false;
  const begin = () => {
    worker?.terminate();
    worker = null;
    if (stopped) return;
    const make = ways.shift();
    if (!make) {
      timer ??= setInterval(call, everyMs);
      return;
    }
    try {
      worker = make();
      worker.onmessage = call;
      worker.onerror = begin;
      worker.postMessage(everyMs);
    } catch {
      begin();
    }
  };
  begin();
  return () => {
    stopped = true;
    worker?.terminate();
    clearInterval(timer);
  };
}
