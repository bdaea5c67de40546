// The inner loop and the two modes of classifying (src/firstorder/method/inner_loop.py and evaluation.py).
//
// Adam has beta1 = 0 and TensorFlow's form, and goes on from the checkpoint's second moments and step count. Every
// inner step sees all support images. The parameters after each step are kept, so that the page can go back to any.
"use strict";

function adaptationModule(network) {
  const BETA2 = 0.999;
  const EPSILON = 1e-8;
  const MODES = ["inductive", "transductive"];

  // v <- beta2 v + (1 - beta2) g^2;  phi <- phi - alpha sqrt(1 - beta2^t) g / (sqrt(v) + epsilon)
  function adamStep(parameters, slope, state, learningRate) {
    const steps = state.steps + 1;
    const rate = learningRate * Math.sqrt(1 - BETA2 ** steps);
    const moments = new Float64Array(parameters.length);
    const adapted = new Float64Array(parameters.length);
    for (let i = 0; i < parameters.length; i++) {
      moments[i] = BETA2 * state.moments[i] + (1 - BETA2) * slope[i] * slope[i];
      adapted[i] = parameters[i] - (rate * slope[i]) / (Math.sqrt(moments[i]) + EPSILON);
    }
    return { parameters: adapted, state: { moments, steps } };
  }

  // Each query with the support set and nothing else.
  function inductive(shape, parameters, support, queries) {
    return queries.map((query) => network.logits(shape, parameters, [...support, query]).at(-1));
  }

  // All queries together, without the support set.
  function transductive(shape, parameters, support, queries) {
    return network.logits(shape, parameters, queries);
  }

  const CLASSIFY = { inductive, transductive };

  // The generator "mulberry32": the same numbers in [0, 1) every time.
  function generator(seed) {
    let state = seed;
    return () => {
      state = (state + 0x6d2b79f5) | 0;
      let mixed = Math.imul(state ^ (state >>> 15), state | 1);
      mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
      return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
    };
  }

  // What a checkpoint would be before training: random parameters, and Adam without a past.
  function untrained(checkpoint) {
    const parameters = network.initial(network.layout(checkpoint.way), generator(1));
    return { ...checkpoint, parameters, moments: new Float64Array(parameters.length), steps: 0 };
  }

  // One task: its support set, the parameters after each inner step, and what they say of the queries. `work` does one
  // small piece at a time, so that whoever calls it can listen in between.
  class Task {
    // checkpoint: { way, parameters, moments, steps, learningRate, innerSteps }; images are 784 numbers, ink 0.
    constructor(checkpoint, support, labels) {
      this.checkpoint = checkpoint;
      this.shape = network.layout(checkpoint.way);
      this.support = support;
      this.labels = labels;
      this.reached = [checkpoint.parameters]; // after 0, 1, ... inner steps
      this.state = { moments: checkpoint.moments, steps: checkpoint.steps };
      this.ask([]);
    }

    // Replace the queries.
    ask(queries) {
      this.queries = queries;
      this.answers = []; // by inner step
    }

    // Take an inner step. `loss` is that of the support set before it, `after` that after the last step.
    step() {
      const parameters = this.reached.at(-1);
      const { loss, gradient } = network.gradient(this.shape, parameters, this.support, this.labels);
      const next = adamStep(parameters, gradient, this.state, this.checkpoint.learningRate);
      this.reached.push(next.parameters);
      this.state = next.state;
      const step = this.reached.length - 1;
      if (step < this.checkpoint.innerSteps) return { kind: "adapted", step, loss };
      const after = network.loss(this.shape, next.parameters, this.support, this.labels);
      return { kind: "adapted", step, loss, after };
    }

    // Logits in both modes, [query][class], after `step` inner steps.
    classify(step) {
      const logits = {};
      for (const mode of MODES) {
        logits[mode] = CLASSIFY[mode](this.shape, this.reached[step], this.support, this.queries);
      }
      this.answers[step] = logits;
      return { kind: "classified", step, logits };
    }

    // Do the next piece of work and say what it was; null if nothing is left. The step that the page shows goes first.
    work(shown) {
      const last = this.checkpoint.innerSteps;
      const open = (step) => this.queries.length > 0 && step < this.reached.length && !this.answers[step];
      if (open(shown)) return this.classify(shown);
      if (this.reached.length <= last) return this.step();
      for (let step = 0; step <= last; step++) if (open(step)) return this.classify(step);
      return null;
    }
  }

  return { Task, untrained };
}
