// What the network says of one query: a bar for each character, and a curve along the inner steps.
"use strict";

const Answers = (() => {
  const WIDTH = 360;
  const HEIGHT = 150;
  const MARGIN = { left: 44, right: 22, top: 8, bottom: 30 };
  const DASHES = ["", "7 3", "4 3", "10 3 3 3", "5 5"]; // so that lines differ without colour

  const TICKS = [0, 1, 2, 5, 10, 20, 50]; // inner steps; the first few matter most, so the axis is logarithmic

  function percent(fraction) {
    if (fraction < 0.01) return "< 1 %";
    return fraction > 0.99 ? "> 99 %" : `${Math.round(100 * fraction)} %`;
  }

  function element(name, attributes = {}, ...children) {
    const made = document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    made.append(...children);
    return made;
  }

  function drawn(name, attributes, text) {
    const made = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    if (text !== undefined) made.textContent = text;
    return made;
  }

  function thumbnail(image) {
    const canvas = element("canvas", { width: Drawing.SIDE, height: Drawing.SIDE, "aria-hidden": "true", class: "seen" });
    Pad.show(canvas, image);
    return canvas;
  }

  // The softmax over the characters that were drawn: { class: chance }.
  function chances(logits, classes, softmax) {
    const values = softmax(classes.map((c) => logits[c]));
    return new Map(classes.map((c, i) => [c, values[i]]));
  }

  function best(found) {
    return [...found].reduce((a, b) => (b[1] > a[1] ? b : a));
  }

  function bars(found, supports) {
    const body = element("tbody");
    for (const [c, chance] of found) {
      const bar = element("div", { class: `bar class${c}` });
      bar.style.width = `${Math.max(0.5, 100 * chance)}%`;
      const row = element(
        "tr",
        c === best(found)[0] ? { class: "best" } : {},
        element("th", { scope: "row" }, thumbnail(supports.get(c)), `${c + 1}`),
        element("td", { class: "track", "aria-hidden": "true" }, bar),
        element("td", { class: "number" }, percent(chance)),
      );
      body.append(row);
    }
    const caption = element("caption", { class: "hidden" }, "Chance of each character");
    return element("table", { class: "bars" }, caption, body);
  }

  // along: [[step, Map of chances], ...], the steps that have been computed.
  function curve(along, classes, shown, last) {
    const x = (step) => MARGIN.left + (Math.log1p(step) / Math.log1p(last)) * (WIDTH - MARGIN.left - MARGIN.right);
    const y = (chance) => MARGIN.top + (1 - chance) * (HEIGHT - MARGIN.top - MARGIN.bottom);
    const svg = drawn("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", class: "curve" });
    for (const level of [0, 0.5, 1]) {
      svg.append(drawn("line", { x1: x(0), x2: x(last), y1: y(level), y2: y(level), class: "grid" }));
      svg.append(drawn("text", { x: x(0) - 6, y: y(level) + 4, "text-anchor": "end" }, `${100 * level} %`));
    }
    for (const step of TICKS.filter((tick) => tick <= last)) {
      svg.append(drawn("text", { x: x(step), y: y(0) + 15, "text-anchor": "middle" }, `${step}`));
    }
    svg.append(drawn("text", { x: (x(0) + x(last)) / 2, y: HEIGHT - 3, "text-anchor": "middle" }, "inner steps"));
    svg.append(drawn("line", { x1: x(shown), x2: x(shown), y1: y(1), y2: y(0), class: "now" }));
    for (const c of classes) {
      const points = along.map(([step, found]) => `${x(step).toFixed(1)},${y(found.get(c)).toFixed(1)}`);
      const look = { points: points.join(" "), class: `line class${c}`, "stroke-dasharray": DASHES[c] };
      svg.append(drawn("polyline", look));
    }
    labelEnds(svg, along, classes, x, y);
    svg.setAttribute("aria-label", spoken(along));
    return svg;
  }

  // The number of each character at the end of its line; numbers that would overlap move apart.
  function labelEnds(svg, along, classes, x, y) {
    if (!along.length) return;
    const [step, found] = along.at(-1);
    let lowest = Infinity;
    for (const c of [...classes].sort((a, b) => found.get(a) - found.get(b))) {
      lowest = Math.min(y(found.get(c)) + 4, lowest - 11);
      svg.append(drawn("text", { x: x(step) + 5, y: lowest, class: `end class${c}` }, `${c + 1}`));
    }
  }

  function spoken(along) {
    if (!along.length) return "No step has been computed yet";
    const say = ([step, found]) => `after ${step} steps character ${best(found)[0] + 1}, ${percent(best(found)[1])}`;
    return `The answer along the inner steps: ${say(along[0])}; ${say(along.at(-1))}`;
  }

  return { bars, best, chances, curve, element, percent, thumbnail };
})();
