// A clock that goes on in hidden tabs: timers of workers are not slowed down as those of pages are.

const WORKER = new URL("./tick-worker.js", import.meta.url);

function makeWorker() {
  if (WORKER.origin === location.origin) return new Worker(WORKER);
  // A worker must come from the page's own origin.
  const source = "onmessage=({data})=>setInterval(()=>postMessage(0),data)";
  const url = URL.createObjectURL(new Blob([source], { type: "text/javascript" }));
  const worker = new Worker(url);
  URL.revokeObjectURL(url);
  return worker;
}

/** Calls `call` every so many milliseconds until the returned function is called.
 * @param {() => void} call @param {number} everyMs */
export function tick(call, everyMs) {
  /** @type {Worker | null} */ let worker = null;
  /** @type {ReturnType<typeof setInterval> | undefined} */ let timer;
  // A content security policy may forbid workers; the timeline then keeps more in hand when hidden.
  const plain = () => {
    worker?.terminate();
    worker = null;
    timer ??= setInterval(call, everyMs);
  };
  try {
    worker = makeWorker();
    worker.onmessage = call;
    worker.onerror = plain;
    worker.postMessage(everyMs);
  } catch {
    plain();
  }
  return () => {
    worker?.terminate();
    clearInterval(timer);
  };
}
