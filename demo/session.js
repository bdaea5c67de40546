// Adaptation beside the page: in a worker made from the text of the two modules, which works from file:// too. Where no
// worker can be made, the page itself does one small piece at a time and listens in between.
"use strict";

// The worker's program, and the page's where there is no worker. `post` sends what happened; returns the listener.
function sessionModule(adaptation, post, later) {
  let checkpoint = null;
  let task = null;
  let begun = 0; // the job of the task
  let job = 0; // the job of its queries
  let shown = 0;
  let waiting = false;

  function pump() {
    waiting = false;
    const started = performance.now();
    const done = task && task.work(shown);
    if (!done) return;
    post({ ...done, job: done.kind === "adapted" ? begun : job, seconds: (performance.now() - started) / 1000 });
    wake();
  }

  function wake() {
    if (waiting) return;
    waiting = true;
    later(pump);
  }

  const handlers = {
    checkpoint: (message) => (checkpoint = message.checkpoint),
    task: (message) => {
      begun = job = message.job;
      const from = message.start === "random" ? adaptation.untrained(checkpoint) : checkpoint;
      task = message.support.length ? new adaptation.Task(from, message.support, message.labels) : null;
      if (task) task.ask(message.queries);
    },
    queries: (message) => {
      job = message.job;
      if (task) task.ask(message.queries);
    },
    shown: (message) => (shown = message.step),
  };

  return (message) => {
    handlers[message.kind](message);
    wake();
  };
}

const Session = (() => {
  // Base 85 as Python's base64.b85encode writes it.
  const ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz!#$%&()*+-;<=>?@^_`{|}~";

  function bytesOf(text) {
    const value = new Uint8Array(128);
    Array.from(ALPHABET).forEach((character, i) => (value[character.charCodeAt(0)] = i));
    const padding = (5 - (text.length % 5)) % 5;
    const padded = text + "~".repeat(padding);
    const view = new DataView(new ArrayBuffer((padded.length / 5) * 4));
    for (let i = 0; i < padded.length; i += 5) {
      let word = 0;
      for (let j = 0; j < 5; j++) word = word * 85 + value[padded.charCodeAt(i + j)];
      view.setUint32((i / 5) * 4, word);
    }
    return new Uint8Array(view.buffer, 0, view.byteLength - padding);
  }

  // The checkpoint's numbers: compressed planes of bytes, parameters first, then second moments.
  async function unpack(stored) {
    const stream = new Blob([bytesOf(stored.values)]).stream().pipeThrough(new DecompressionStream("deflate"));
    const planes = new Uint8Array(await new Response(stream).arrayBuffer());
    const count = planes.length / 4;
    const view = new DataView(new ArrayBuffer(planes.length));
    for (let i = 0; i < count; i++) {
      for (let byte = 0; byte < 4; byte++) view.setUint8(4 * i + byte, planes[byte * count + i]);
    }
    const numbers = Float64Array.from({ length: count }, (_, i) => view.getFloat32(4 * i, true));
    const { way, steps, learningRate, innerSteps } = stored;
    const parameters = numbers.slice(0, count / 2);
    return { way, steps, learningRate, innerSteps, parameters, moments: numbers.slice(count / 2) };
  }

  function workerText() {
    return `"use strict";
      ${networkModule}
      ${adaptationModule}
      ${sessionModule}
      const channel = new MessageChannel();
      let next = null;
      channel.port1.onmessage = () => next();
      const later = (call) => { next = call; channel.port2.postMessage(0); };
      const listen = sessionModule(adaptationModule(networkModule()), (message) => postMessage(message), later);
      onmessage = (event) => listen(event.data);`;
  }

  // Return a function that sends a message; `hear` gets every answer.
  function open(hear) {
    try {
      const url = URL.createObjectURL(new Blob([workerText()], { type: "text/javascript" }));
      const worker = new Worker(url);
      worker.onmessage = (event) => hear(event.data);
      return (message) => worker.postMessage(message);
    } catch {
      const later = (call) => setTimeout(call, 0);
      return sessionModule(adaptationModule(networkModule()), hear, later);
    }
  }

  return { open, unpack };
})();
