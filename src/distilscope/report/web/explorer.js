"use strict";
// Four sliders over stops that were fitted beforehand; everything else follows from the stop.
{
  const explored = JSON.parse(document.getElementById("explored").textContent);
  const { betas, ground_truth: truth, entropy: entropyOfTruth, points } = explored;
  const teacherSizes = Object.keys(explored.teachers), studentSizes = Object.keys(explored.direct);
  const byId = (id) => document.getElementById(id);
  const sliders = { beta: byId("beta"), winner: byId("winner"), k1: byId("teacher-components"), k2: byId("student-components") };
  const named = (beta) => (beta === "inf" ? "∞" : String(beta));
  const shown = (value) => value.toFixed(2).replace("-", "−");

  // --- what a stop is

  const heaviest = (mixture) => mixture.reduce((best, [log], k) => (log > mixture[best][0] ? k : best), 0);
  const stop = () => {
    const k1 = teacherSizes[sliders.k1.value], k2 = studentSizes[sliders.k2.value], winner = Number(sliders.winner.value);
    const fitted = explored.teachers[k1], led = ledBy(fitted, winner);
    const b = Number(sliders.beta.value), student = (at) => explored.students[k1][k2][winner][at];
    return { k1, k2, winner, b, fitted, led, teacher: selected(led, betas[b]), direct: explored.direct[k2], student };
  };

  const known = new Map();
  const remember = (key, compute) => {
    if (!known.has(key)) known.set(key, compute());
    return known.get(key);
  };
  const studentAt = (now, b) => remember(`student ${now.k1} ${now.k2} ${now.winner} ${b}`, () => measured(now.student(b), truth, entropyOfTruth));
  const directAt = (now) => remember(`direct ${now.k2}`, () => measured(now.direct, truth, entropyOfTruth));
  const teacherAt = (now) => remember(`teacher ${now.k1} ${now.winner} ${now.b}`, () => measured(now.teacher, truth, entropyOfTruth));

  // --- drawing

  const make = (tag, attributes, text) => {
    const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    if (text !== undefined) element.textContent = text;
    return element;
  };

  const reach = Math.max(1.9, ...points.flat().map(Math.abs)) + 0.1;
  const SIDE = 111, SIZE = 220, LEVELS = [0.03, 0.1, 0.25, 0.45, 0.7, 0.93];
  const pixel = (x, y) => [((x + reach) / (2 * reach)) * SIZE, ((reach - y) / (2 * reach)) * SIZE];
  const contours = (mixture, role, dashed = false) => {
    const log = logDensity(mixture), values = new Float64Array(SIDE * SIDE), step = (2 * reach) / (SIDE - 1);
    for (let row = 0; row < SIDE; row++) for (let column = 0; column < SIDE; column++) values[row * SIDE + column] = Math.exp(log(column * step - reach, row * step - reach));
    const most = values.reduce((best, value) => Math.max(best, value), 0);
    const place = (column, row) => pixel(column * step - reach, row * step - reach).map((value) => value.toFixed(1)).join(" ");
    return make("path", { class: `contour c-${role}${dashed ? " dashed" : ""}`, d: LEVELS.map((level) => contour(values, SIDE, level * most, place)).join("") });
  };
  const dots = (places, role, faint = false) => {
    const group = make("g", { class: `dots f-${role}${faint ? " faint" : ""}` });
    group.append(...places.map(([x, y]) => { const [cx, cy] = pixel(x, y); return make("circle", { cx: cx.toFixed(1), cy: cy.toFixed(1), r: 1.7 }); }));
    return group;
  };
  const frame = () => make("rect", { class: "axis", x: 0.5, y: 0.5, width: SIZE - 1, height: SIZE - 1 });

  // The same random numbers at every stop, so that only what a slider changes moves.
  const random = (() => {
    let state = 1;
    return () => {
      state = (state + 0x6d2b79f5) | 0;
      let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
      mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
      return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
    };
  })();
  const noise = Array.from({ length: 300 }, () => {
    const radius = Math.sqrt(-2 * Math.log(1 - random())), angle = 2 * Math.PI * random();
    return [random(), radius * Math.cos(angle), radius * Math.sin(angle)];
  });
  const draws = (mixture) => noise.map(([u, zx, zy]) => {
    let left = u, k = 0;
    while (k + 1 < mixture.length && left >= Math.exp(mixture[k][0])) left -= Math.exp(mixture[k++][0]);
    const [, mx, my, vx, vy] = mixture[k];
    return [mx + Math.sqrt(vx) * zx, my + Math.sqrt(vy) * zy];
  });

  const drawPanels = (now) => {
    byId("figure-1a").replaceChildren(frame(), contours(truth, "reference"), dots(points, "reference"));
    byId("figure-1b").replaceChildren(frame(), dots(points, "reference", true), contours(now.direct, "direct", true));
    const numbers = now.led.map(([, x, y], k) => { const [left, top] = pixel(x, y); return make("text", { x: left, y: top + 3, "text-anchor": "middle" }, String(k + 1)); });
    byId("figure-2a").replaceChildren(frame(), dots(points, "reference", true), contours(now.led, "teacher"), ...numbers);
    byId("figure-2b").replaceChildren(frame(), dots(points, "reference", true), dots(draws(now.teacher), "teacher"));
    byId("figure-2c").replaceChildren(frame(), dots(points, "reference", true), contours(now.direct, "direct", true), contours(now.student(now.b), "distilled"));
  };

  const drawWeights = (now) => {
    const chosen = weightsOf(now.teacher), fitted = weightsOf(now.led), width = 320 / chosen.length, top = 14, height = 92, parts = [];
    chosen.forEach((weight, k) => {
      const left = k * width + 0.18 * width, wide = 0.64 * width;
      const bar = (value, name) => make("rect", { class: name, x: left, y: top + (1 - value) * height, width: wide, height: value * height });
      parts.push(bar(weight, "f-teacher"), bar(fitted[k], "fitted"));
      const middle = { x: left + wide / 2, "text-anchor": "middle" };
      parts.push(make("text", { ...middle, y: top + (1 - Math.max(weight, fitted[k])) * height - 4 }, weight.toFixed(2)));
      parts.push(make("text", { ...middle, y: top + height + 16, "font-weight": k === now.winner ? 700 : 400 }, String(k + 1)));
    });
    parts.push(make("path", { class: "axis", d: `M0 ${top + height}H320` }));
    byId("weights").replaceChildren(...parts);
    byId("weight-entropy").textContent = shown(-chosen.reduce((sum, weight) => sum + (weight > 0 ? weight * Math.log(weight) : 0), 0));
    const asked = difficulty(truth, now.led, chosen, Number(now.k2), explored.epsilon);
    byId("difficulty").textContent = String(asked).replace("-", "−");
  };

  const drawFrontier = (now, trace) => {
    const box = { left: 46, right: 640, top: 12, bottom: 286 };
    const direct = directAt(now), stops = trace.filter((one) => one), here = studentAt(now, now.b);
    const every = [...stops, direct, here];
    const worst = Math.max(120, ...every.map(({ recall }) => -recall * 1.15)), low = Math.min(-9, ...every.map(({ precision }) => precision - 0.5));
    const across = (recall) => box.right - (Math.log(-recall) / Math.log(worst)) * (box.right - box.left);
    const up = (precision) => box.top + (precision / low) * (box.bottom - box.top);
    const at = ({ precision, recall }) => [across(Math.min(recall, -1)), up(precision)];
    const parts = [make("path", { class: "axis", d: `M${box.left} ${box.top}V${box.bottom}H${box.right}` })];
    for (let power = 1; power <= worst; power *= 10) for (const times of [1, 2, 5]) if (power * times <= worst) {
      const x = across(-power * times);
      parts.push(make("path", { class: "axis", d: `M${x} ${box.bottom}v4` }), make("text", { x, y: box.bottom + 18, "text-anchor": "middle" }, `−${power * times}`));
    }
    for (let tick = 0; tick >= low; tick -= low < -12 ? 4 : 2) parts.push(make("path", { class: "axis", d: `M${box.left} ${up(tick)}h-4` }), make("text", { x: box.left - 8, y: up(tick) + 4, "text-anchor": "end" }, String(tick).replace("-", "−")));
    parts.push(make("text", { x: box.right, y: box.bottom + 36, "text-anchor": "end" }, "recall R →"), make("text", { x: box.left + 6, y: box.top + 4 }, "↑ precision P"));
    const [tx, ty] = at({ precision: -entropyOfTruth, recall: -entropyOfTruth });
    parts.push(make("path", { class: "f-reference", d: `M${tx} ${ty - 6}l6 6l-6 6l-6 -6z` }), make("text", { x: tx - 10, y: ty + 4, "text-anchor": "end" }, "p*"));
    const [dx, dy] = at(direct);
    parts.push(make("rect", { class: "f-direct", x: dx - 5, y: dy - 5, width: 10, height: 10 }), make("text", { x: dx - 10, y: dy + 16, "text-anchor": "end" }, "direct"));
    if (stops.length > 1) parts.push(make("polyline", { class: "trace", points: stops.map((one) => at(one).join(",")).join(" ") }));
    stops.forEach((one) => { const [cx, cy] = at(one); parts.push(make("circle", { class: "f-distilled", cx, cy, r: 3 })); });
    const [hx, hy] = at(here), leftwards = hx > (box.left + box.right) / 2;
    parts.push(make("circle", { class: "f-distilled", cx: hx, cy: hy, r: 5.5 }), make("circle", { class: "ring", cx: hx, cy: hy, r: 10 }));
    parts.push(make("text", { x: hx + (leftwards ? -15 : 15), y: hy - 8, "text-anchor": leftwards ? "end" : "start" }, `β = ${named(betas[now.b])}`));
    byId("frontier").replaceChildren(...parts);
  };

  const fill = (id, found) => {
    const row = byId(id), cells = [found.precision, found.recall, found.entropy, found.klCandidate, found.klReference];
    row.replaceChildren(row.firstElementChild, ...cells.map((value) => {
      const cell = document.createElement("td");
      cell.textContent = shown(value);
      cell.dataset.value = value;
      return cell;
    }));
  };

  // --- from a stop to the page: at once what is quick; the rest of the line in between, so that a slider never waits

  let turn = 0;
  const update = () => {
    const now = stop(), mine = ++turn, trace = betas.map(() => null);
    const say = (slider, text) => { byId(`${slider.id}-is`).textContent = text; slider.setAttribute("aria-valuetext", text); };
    say(sliders.beta, `β = ${named(betas[now.b])}`);
    say(sliders.winner, `${now.winner + 1} of ${now.k1}${now.winner === heaviest(now.fitted) ? ", as fitted" : ""}`);
    say(sliders.k1, `K′ = ${now.k1}`);
    say(sliders.k2, `K″ = ${now.k2}`);
    fill("distilled", studentAt(now, now.b));
    fill("direct", directAt(now));
    drawWeights(now);
    drawPanels(now);
    const rest = [() => fill("teacher", teacherAt(now)), ...betas.map((_, b) => () => { trace[b] = studentAt(now, b); })];
    const goOn = () => {
      if (mine !== turn) return;
      const began = performance.now();
      while (rest.length && performance.now() - began < 25) rest.shift()();
      drawFrontier(now, trace);
      if (rest.length) setTimeout(goOn);
      else document.documentElement.dataset.drawn = Math.round(performance.now());
    };
    delete document.documentElement.dataset.drawn;
    goOn();
  };

  const begin = () => {
    const { beta, teacher_components: k1, student_components: k2 } = explored.start;
    sliders.beta.max = betas.length - 1;
    sliders.k1.max = teacherSizes.length - 1;
    sliders.k2.max = studentSizes.length - 1;
    sliders.beta.value = betas.indexOf(beta);
    sliders.k1.value = teacherSizes.indexOf(String(k1));
    sliders.k2.value = studentSizes.indexOf(String(k2));
    follow();
    update();
  };
  /** Another teacher has other modes: its own heaviest wins, until the reader says otherwise. */
  const follow = () => {
    const fitted = explored.teachers[teacherSizes[sliders.k1.value]];
    sliders.winner.max = fitted.length - 1;
    sliders.winner.value = heaviest(fitted);
  };
  sliders.k1.addEventListener("input", follow);
  for (const slider of Object.values(sliders)) slider.addEventListener("input", update);
  byId("settings").addEventListener("reset", (event) => { event.preventDefault(); begin(); });
  byId("settings").addEventListener("submit", (event) => event.preventDefault());
  byId("entropy").textContent = shown(entropyOfTruth);
  begin();
}
