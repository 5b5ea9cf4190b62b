// A clock that goes on in hidden tabs: timers of workers are not slowed down as those of pages are.

const WORKER = new URL("./tick-worker.js", import.meta.url);

function makeWorker() {
  if (WORKER.origin === location.origin) return new Worker(WORKER);
  // A worker must come from the page's own origin.
  const url = URL.createObjectURL(new Blob(["onmessage=({data})=>setInterval(()=>postMessage(0),data)"], { type: "text/javascript" }));
  const worker = new Worker(url);
  URL.revokeObjectURL(url);
  return worker;
}

/** Calls `run` every so many milliseconds until the returned function is called. */
export function tick(run, everyMs) {
  let worker = null;
  let timer = null;
  const plain = () => {
    worker?.terminate();
    worker = null;
    timer ??= setInterval(run, everyMs); // a content security policy may forbid workers; the timeline then keeps more in hand when hidden
  };
  try {
    worker = makeWorker();
    worker.onmessage = run;
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
