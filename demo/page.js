// The page: what was drawn goes to the session, and what the session answers is shown.
"use strict";

const Page = (() => {
  const WAY = CHECKPOINT.way;
  const LAST = CHECKPOINT.innerSteps;
  const MOST_QUERIES = 5;
  const WAIT = 150; // milliseconds after a stroke before adapting again
  const PLAY = 160; // milliseconds a step
  const { softmax } = networkModule();
  const byId = (id) => document.getElementById(id);

  const supports = [];
  const queries = [];
  let send = null; // to the session
  let job = 0; // answers to older jobs are dropped
  let task = { job: 0, classes: [], images: new Map() };
  let asked = []; // pads and images of the queries that were sent
  let answers = []; // by inner step: logits in both modes
  let losses = []; // on the support set, by inner steps taken
  let seconds = [];
  let timer = null;
  let playing = null;

  const chosen = (name) => document.querySelector(`input[name=${name}]:checked`).value;
  const mode = () => chosen("mode");
  const random = () => chosen("start") === "random";
  const step = () => Number(byId("step").value);
  const copied = (image) => Uint8Array.from(image);

  function choices() {
    const drawings = EXAMPLES.map(({ name, drawings }) => ({
      group: "Example drawings",
      name,
      pick: (place) => ({ strokes: drawings[place % drawings.length] }),
    }));
    const glyphs = GLYPHS.map(({ name, images }) => ({
      group: "Printed glyphs",
      name,
      pick: (place) => ({ image: Drawing.imageFrom(images[place % images.length]) }),
    }));
    return [...drawings, ...glyphs];
  }

  // Queries take other drawings of a character than the support set does: place 1 and on.
  function addQuery() {
    const place = 1 + queries.length;
    const pad = new Pad({ title: `Query ${place}`, place, choices: choices(), changed: () => later(sendQueries) });
    queries.push(pad);
    byId("more").before(pad.element);
    byId("more").disabled = queries.length === MOST_QUERIES;
    return pad;
  }

  function later(act) {
    // A new task includes new queries, so a waiting task is not replaced by them.
    if (timer?.act === sendTask) act = sendTask;
    clearTimeout(timer?.id);
    timer = { act, id: setTimeout(() => ((timer = null), act()), WAIT) };
  }

  function takeQueries() {
    asked = queries.filter((pad) => !pad.empty).map((pad) => ({ title: pad.title, image: copied(pad.image) }));
    answers = [];
    job += 1;
    return asked.map(({ image }) => image);
  }

  function sendTask() {
    if (!send) return; // `start` calls this again
    const classes = supports.flatMap((pad, c) => (pad.empty ? [] : [c]));
    const images = takeQueries();
    task = { job, classes, images: new Map(classes.map((c) => [c, copied(supports[c].image)])) };
    [losses, seconds] = [[], []];
    const support = classes.length > 1 ? [...task.images.values()] : [];
    send({ kind: "task", job, start: chosen("start"), support, labels: classes, queries: images });
    show();
  }

  function sendQueries() {
    if (!send) return;
    const images = takeQueries();
    send({ kind: "queries", job, queries: images });
    show();
  }

  function hear(message) {
    if (message.kind === "adapted") {
      if (message.job !== task.job) return;
      losses[message.step - 1] = message.loss;
      if (message.after !== undefined) losses[message.step] = message.after;
      seconds.push(message.seconds);
    } else if (message.job === job) answers[message.step] = message.logits;
    show();
  }

  function count(number, thing) {
    return `${number} ${thing}${number === 1 ? "" : "s"}`;
  }

  function progress() {
    const drawn = task.classes.length;
    if (drawn === 0) return "Draw at least two characters above, or fill in examples.";
    if (drawn === 1) return "One character is drawn. Draw at least one more: there is nothing to tell apart yet.";
    const fewer = `The network has five outputs; those of the ${count(WAY - drawn, "empty pad")} are left out of the answer.`;
    const missing = drawn < WAY ? ` ${fewer}` : "";
    const done = seconds.length;
    if (done < LAST) return `Adapting to ${drawn} drawings: ${done} of ${LAST} inner steps.${missing}`;
    const each = Math.round((1000 * seconds.reduce((a, b) => a + b, 0)) / Math.max(1, seconds.length));
    return `Adapted to ${drawn} drawings: ${LAST} inner steps, ${each} ms each in this browser.${missing}`;
  }

  // One sentence on what the visitor sees at this step.
  function explanation(at) {
    if (task.classes.length < 2) return "";
    if (at === 0) {
      return "Step 0: the network has not seen your drawings, so its outputs mean nothing and the answer is arbitrary.";
    }
    if (losses[at] === undefined) return `Step ${at} has not been computed yet.`;
    const fell = `the loss on your drawings has fallen from ${losses[0].toPrecision(2)} to ${losses[at].toPrecision(2)}`;
    if (random()) return `Step ${at}: ${fell}, from random weights too. Compare the answers with those from Reptile’s weights.`;
    if (at === 1) return `Step 1: ${fell}. Reptile has found weights from which one step of gradient descent does so much.`;
    if (at < CHECKPOINT.trainedSteps) return `Step ${at}: ${fell}. The steps after the first only refine.`;
    if (at === CHECKPOINT.trainedSteps) return `Step ${at}: ${fell}. In meta-training Reptile took as many steps a task.`;
    if (at < LAST) return `Step ${at}: ${fell}. The curves show whether more steps still change an answer.`;
    return `Step ${at}: ${fell}. Here the paper’s evaluation stops and gives its answer.`;
  }

  // What was recorded with Omniglot's characters at this step or the last recorded one before it.
  function average(at) {
    if (random()) return "";
    const rows = CHECKPOINT.along.filter((row) => row.mode === mode() && row.step <= at);
    if (!rows.length) return "";
    const { step, tasks, accuracy } = rows.reduce((a, b) => (b.step > a.step ? b : a));
    const right = `${(100 * accuracy).toFixed(1)} % of its answers are right after ${count(step, "inner step")}`;
    return `For comparison: with Omniglot’s meta-test characters, over ${tasks} recorded tasks (${mode()}), ${right}.`;
  }

  function modeExplanation() {
    if (mode() === "inductive") {
      return "Inductive: each query is normalised together with your drawings and nothing else, so other queries cannot change its answer.";
    }
    const alone = asked.length === 1 ? " With one query alone there is little to normalise with: ask about several." : "";
    return `Transductive: all queries are normalised together, without your drawings, so they help each other.${alone}`;
  }

  function along(query) {
    const found = [];
    answers.forEach((logits, at) => {
      found.push([at, Answers.chances(logits[mode()][query], task.classes, softmax)]);
    });
    return found;
  }

  function answerOf({ title, image }, query) {
    const steps = along(query);
    const now = steps.find(([at]) => at === step());
    const says = now
      ? `character ${Answers.best(now[1])[0] + 1} (${Answers.percent(Answers.best(now[1])[1])})`
      : "not computed yet";
    const heading = Answers.element("h3", {}, Answers.thumbnail(image), `${title}: ${says}`);
    const parts = now ? [Answers.bars(now[1], task.images)] : [];
    const curve = Answers.curve(steps, task.classes, step(), LAST);
    const body = Answers.element("div", { class: "answer-body" }, ...parts, curve);
    return { says: `${title}: ${says}`, element: Answers.element("article", { class: "answer" }, heading, body) };
  }

  let frame = null;
  // Redraw at most once a frame.
  function show() {
    frame ??= requestAnimationFrame(() => {
      frame = null;
      render();
    });
  }

  function render() {
    byId("step-number").textContent = `${step()}`;
    byId("progress").textContent = progress();
    byId("explained").textContent = explanation(step());
    byId("mode-explained").textContent = modeExplanation();
    byId("average").textContent = average(step());
    const shown = task.classes.length > 1 ? asked.map(answerOf) : [];
    byId("answers").replaceChildren(...shown.map(({ element }) => element));
    if (task.classes.length > 1 && !asked.length) byId("answers").textContent = "Draw a query above to ask.";
    const settled = seconds.length >= LAST && playing === null;
    if (settled && shown.length) {
      byId("spoken").textContent = `After ${step()} inner steps: ${shown.map(({ says }) => says).join("; ")}`;
    } else if (task.classes.length < 2) byId("spoken").textContent = progress();
  }

  function moveTo(value) {
    byId("step").value = String(value);
    send?.({ kind: "shown", step: step() });
    show();
  }

  function play() {
    const stop = () => {
      clearInterval(playing);
      playing = null;
      byId("play").textContent = "Play";
      show();
    };
    if (playing !== null) return stop();
    byId("play").textContent = "Stop";
    moveTo(step() === LAST ? 0 : step());
    playing = setInterval(() => (step() < LAST ? moveTo(step() + 1) : stop()), PLAY);
  }

  function fill(first, query) {
    const all = choices();
    supports.forEach((pad, c) => pad.take(all[first + c].pick(0)));
    queries.forEach((pad, q) => pad.take(all[first + ((query + q) % WAY)].pick(pad.place)));
  }

  function about() {
    const { training, seed, digest, measured } = CHECKPOINT;
    const reached = Object.entries(measured).map(([name, { accuracy }]) => `${(100 * accuracy).toFixed(2)} % (${name})`);
    const tasks = Math.min(...Object.values(measured).map((found) => found.tasks)).toLocaleString("en");
    const accuracy = reached.length
      ? ` Recorded over ${tasks} tasks with Omniglot’s meta-test characters, 5-way 1-shot: ${reached.join(", ")} of its answers are right.`
      : "";
    byId("checkpoint").textContent = `Weights: the published checkpoint ${training}, seed ${seed}, SHA-256 ${digest.slice(0, 16)}….${accuracy}`;
  }

  function repaint() {
    for (const pad of [...supports, ...queries]) pad.draw();
    show();
  }

  async function start() {
    byId("step").max = byId("step").value = String(LAST);
    for (let c = 0; c < WAY; c++) {
      const pad = new Pad({ title: `Character ${c + 1}`, place: 0, choices: choices(), changed: () => later(sendTask) });
      supports.push(pad);
      byId("supports").append(pad.element);
    }
    addQuery();
    about();
    byId("fill-drawings").addEventListener("click", () => fill(0, 2));
    byId("fill-glyphs").addEventListener("click", () => fill(EXAMPLES.length, 1));
    byId("clear-all").addEventListener("click", () => [...supports, ...queries].forEach((pad) => pad.clear()));
    byId("more").addEventListener("click", () => addQuery().canvas.focus());
    byId("step").addEventListener("input", () => moveTo(step()));
    byId("modes").addEventListener("change", show);
    byId("starts").addEventListener("change", sendTask);
    byId("play").addEventListener("click", play);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", repaint);
    const checkpoint = await Session.unpack(CHECKPOINT);
    send = Session.open(hear);
    send({ kind: "checkpoint", checkpoint });
    send({ kind: "shown", step: LAST });
    sendTask();
  }

  const ready = start();
  ready.catch((error) => (byId("progress").textContent = `This browser cannot run the page: ${error.message}.`));
  return { ready };
})();
