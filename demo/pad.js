// One drawing pad: a sheet to draw on by mouse, touch, pen or keyboard, and the image that the network sees beside it.
"use strict";

class Pad {
  // title: what it is, for people; choices: [{ group, name, pick }], where pick(place) returns { strokes } or { image };
  // changed: called when its image may have changed.
  constructor({ title, place, choices, changed }) {
    Object.assign(this, { title, place, choices, changed, strokes: [], given: null, stroke: null, byKeys: false });
    this.pen = [Drawing.SHEET / 2, Drawing.SHEET / 2]; // the keyboard's
    this.element = document.getElementById("pad-template").content.firstElementChild.cloneNode(true);
    const find = (name) => this.element.querySelector(`.${name}`);
    [this.canvas, this.seen, this.select] = [find("sheet"), find("seen"), find("choice")];
    find("title").textContent = title;
    find("undo").setAttribute("aria-label", `Undo the last stroke: ${title}`);
    find("clear").setAttribute("aria-label", `Clear: ${title}`);
    this.select.setAttribute("aria-label", `Choose a finished drawing for: ${title}`);
    find("undo").addEventListener("click", () => this.undo());
    find("clear").addEventListener("click", () => this.clear());
    this.fillSelect();
    this.listen();
    this.draw();
  }

  get empty() {
    return this.given === null && this.strokes.length === 0;
  }

  // 28 x 28 numbers, ink 0 and paper 1.
  get image() {
    return this.given ?? Drawing.imageOf(this.strokes);
  }

  fillSelect() {
    const groups = new Map();
    this.choices.forEach(({ group, name }, i) => {
      if (!groups.has(group)) {
        groups.set(group, Object.assign(document.createElement("optgroup"), { label: group }));
        this.select.append(groups.get(group));
      }
      groups.get(group).append(new Option(name, String(i)));
    });
    this.select.addEventListener("change", () => {
      if (this.select.value !== "") this.take(this.choices[Number(this.select.value)].pick(this.place));
    });
  }

  listen() {
    const { canvas } = this;
    canvas.addEventListener("pointerdown", (event) => {
      if (event.button !== 0) return;
      canvas.setPointerCapture(event.pointerId);
      this.byKeys = false;
      this.begin(this.pointOf(event));
    });
    canvas.addEventListener("pointermove", (event) => {
      if (!this.stroke || !canvas.hasPointerCapture(event.pointerId)) return;
      const all = event.getCoalescedEvents?.() ?? [];
      for (const part of all.length ? all : [event]) this.extend(this.pointOf(part));
    });
    for (const kind of ["pointerup", "pointercancel"]) canvas.addEventListener(kind, () => this.end());
    canvas.addEventListener("keydown", (event) => this.press(event));
    canvas.addEventListener("focus", () => this.draw());
    canvas.addEventListener("blur", () => this.end());
  }

  pointOf(event) {
    const box = this.canvas.getBoundingClientRect();
    const along = (value, start, length) => Math.round(((value - start) / length) * Drawing.SHEET * 10) / 10;
    return [along(event.clientX, box.left, box.width), along(event.clientY, box.top, box.height)];
  }

  press(event) {
    const moves = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
    const acts = { Backspace: () => this.undo(), Delete: () => this.clear(), Escape: () => this.end() };
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    this.byKeys = event.key !== "Tab";
    if (moves[event.key]) {
      const length = event.shiftKey ? 1 : 4;
      this.pen = this.pen.map((value, i) => Math.min(Drawing.SHEET, Math.max(0, value + length * moves[event.key][i])));
      if (this.stroke) this.extend([...this.pen]);
      else this.draw();
    } else if (event.key === " " || event.key === "Enter") {
      if (this.stroke) this.end();
      else this.begin([...this.pen]);
    } else if (acts[event.key]) acts[event.key]();
    else return;
    event.preventDefault();
  }

  begin(point) {
    if (this.given) this.reset();
    this.select.value = "";
    this.stroke = [point];
    this.strokes.push(this.stroke);
    this.draw();
  }

  extend(point) {
    this.stroke.push(point);
    this.draw();
  }

  end() {
    const ended = this.stroke !== null;
    this.stroke = null;
    this.draw();
    if (ended) this.changed();
  }

  reset() {
    [this.strokes, this.given, this.stroke] = [[], null, null];
    this.select.value = "";
  }

  undo() {
    if (this.given) this.reset();
    this.stroke = null;
    this.strokes.pop();
    this.draw();
    this.changed();
  }

  clear() {
    this.reset();
    this.draw();
    this.changed();
  }

  // Replace the drawing by a finished one.
  take({ strokes, image }) {
    const chosen = this.select.value;
    this.reset();
    this.select.value = chosen;
    if (image) this.given = image;
    else this.strokes = strokes.map((stroke) => stroke.map((point) => [...point]));
    this.draw();
    this.changed();
  }

  draw() {
    const style = getComputedStyle(document.documentElement);
    const colour = (name) => style.getPropertyValue(name).trim();
    const context = this.canvas.getContext("2d");
    const scale = this.canvas.width / Drawing.SHEET;
    context.setTransform(scale, 0, 0, scale, 0, 0);
    context.fillStyle = colour("--sheet");
    context.fillRect(0, 0, Drawing.SHEET, Drawing.SHEET);
    if (this.empty) this.drawGuide(context, colour("--guide"));
    context.fillStyle = context.strokeStyle = colour("--ink");
    if (this.given) this.drawPixels(context, this.given, Drawing.SHEET / Drawing.SIDE);
    else this.drawStrokes(context);
    if (document.activeElement === this.canvas && (this.byKeys || this.canvas.matches(":focus-visible"))) this.drawPen(context, colour("--accent"));
    this.describe();
    Pad.show(this.seen, this.image);
  }

  drawGuide(context, colour) {
    const edge = (Drawing.SHEET - Drawing.USUAL) / 2;
    context.strokeStyle = colour;
    context.lineWidth = 0.7;
    context.setLineDash([3, 3]);
    context.strokeRect(edge, edge, Drawing.USUAL, Drawing.USUAL);
    context.setLineDash([]);
  }

  drawStrokes(context) {
    context.lineWidth = 2 * Drawing.PEN;
    context.lineCap = context.lineJoin = "round";
    for (const stroke of this.strokes) {
      context.beginPath();
      context.moveTo(...stroke[0]);
      for (const point of stroke) context.lineTo(...point);
      context.stroke();
    }
  }

  drawPixels(context, image, size) {
    image.forEach((paper, i) => {
      if (!paper) context.fillRect((i % Drawing.SIDE) * size, Math.floor(i / Drawing.SIDE) * size, size + 0.1, size + 0.1);
    });
  }

  // The keyboard's pen: a cross, with a ring while it draws.
  drawPen(context, colour) {
    const [x, y] = this.pen;
    context.strokeStyle = colour;
    context.lineWidth = 1;
    context.beginPath();
    for (const [dx, dy] of [[4, 0], [0, 4]]) {
      context.moveTo(x - dx, y - dy);
      context.lineTo(x + dx, y + dy);
    }
    context.stroke();
    if (!this.stroke) return;
    context.beginPath();
    context.arc(x, y, 6, 0, 2 * Math.PI);
    context.stroke();
  }

  describe() {
    const count = this.strokes.length;
    const state = this.given ? "a finished drawing" : count ? `${count} stroke${count > 1 ? "s" : ""}` : "empty";
    this.canvas.setAttribute("aria-label", `${this.title}: ${state}${this.stroke ? ", pen down" : ""}`);
  }

  // Show an image of 28 x 28 pixels on a canvas of that size.
  static show(canvas, image) {
    const style = getComputedStyle(document.documentElement);
    const context = canvas.getContext("2d");
    context.fillStyle = style.getPropertyValue("--sheet").trim();
    context.fillRect(0, 0, Drawing.SIDE, Drawing.SIDE);
    context.fillStyle = style.getPropertyValue("--ink").trim();
    image.forEach((paper, i) => {
      if (!paper) context.fillRect(i % Drawing.SIDE, Math.floor(i / Drawing.SIDE), 1, 1);
    });
  }
}
