"use strict";
// Mixtures of Gaussians on the plane, with diagonal covariances: a list of components [log weight, mean 1, mean 2, variance 1, variance 2].

const LOG_2_PI = Math.log(2 * Math.PI);

/** log softmax(β log α): "inf" is the argmax limit, in which weights that tie share. In logarithms, for β may be large. */
function selected(mixture, beta) {
  const logs = mixture.map(([log]) => log), most = Math.max(...logs);
  const raised = logs.map((log) => (beta === "inf" ? (log === most ? 0 : -Infinity) : beta * (log - most)));
  const total = Math.log(raised.reduce((sum, log) => sum + Math.exp(log), 0));
  return withLogWeights(mixture, raised.map((log) => log - total));
}

/** The mixture whose component `winner` has the heaviest weight, in exchange for its own. */
function ledBy(mixture, winner) {
  const logs = mixture.map(([log]) => log), heaviest = logs.indexOf(Math.max(...logs));
  [logs[heaviest], logs[winner]] = [logs[winner], logs[heaviest]];
  return withLogWeights(mixture, logs);
}

function withLogWeights(mixture, logs) {
  return mixture.map(([, ...shape], k) => [logs[k], ...shape]);
}

const weightsOf = (mixture) => mixture.map(([log]) => Math.exp(log));

/** log p at points: a function of (x, y), in nats. */
function logDensity(mixture) {
  const alive = mixture.filter(([logWeight]) => logWeight > -Infinity);
  const n = alive.length, terms = new Float64Array(n), column = (of) => Float64Array.from(alive, of);
  const scale = column(([logWeight, , , vx, vy]) => logWeight - LOG_2_PI - 0.5 * Math.log(vx * vy));
  const mx = column(([, x]) => x), my = column(([, , y]) => y), px = column(([, , , vx]) => 0.5 / vx), py = column(([, , , , vy]) => 0.5 / vy);
  return (x, y) => {
    let most = -Infinity;
    for (let k = 0; k < n; k++) {
      const dx = x - mx[k], dy = y - my[k], term = scale[k] - dx * dx * px[k] - dy * dy * py[k];
      terms[k] = term;
      if (term > most) most = term;
    }
    if (n === 1) return most;
    let sum = 0;
    for (let k = 0; k < n; k++) if (terms[k] > most - 40) sum += Math.exp(terms[k] - most);
    return most + Math.log(sum);
  };
}

// Gauss-Legendre nodes and weights on [-1, 1], six of them.
const NODES = [-0.9324695142031521, -0.6612093864662645, -0.23861918608319693, 0.23861918608319693, 0.6612093864662645, 0.9324695142031521];
const MASSES = [0.17132449237917036, 0.3607615730481386, 0.46791393457269104, 0.46791393457269104, 0.3607615730481386, 0.17132449237917036];
const REACH = 8; // standard deviations of a component that are covered on each axis

/**
 * E_q[log p] in nats, to within `tolerance`. Each component of q has its own coordinates z, in which it is N(0, I); squares there are
 * quartered until halves agree with wholes. No square stays wide beside a component of p that it meets, for no rule would notice it.
 */
function expectedLogProb(q, p, tolerance = 1e-4) {
  const log = logDensity(p);
  let total = 0;
  for (const [logWeight, mx, my, vx, vy] of q) {
    const weight = Math.exp(logWeight);
    if (weight === 0) continue;
    const sx = Math.sqrt(vx), sy = Math.sqrt(vy);
    const shapes = p.filter(([log]) => log > -Infinity).map(([, ax, ay, ux, uy]) => {
      const rx = Math.sqrt(ux) / sx, ry = Math.sqrt(uy) / sy;
      return { x: (ax - mx) / sx, y: (ay - my) / sy, rx, ry, narrow: Math.min(rx, ry) };
    });
    const rule = (cx, cy, half) => {
      let sum = 0;
      for (let i = 0; i < 6; i++) {
        const x = cx + half * NODES[i], ex = MASSES[i] * Math.exp(-0.5 * x * x);
        for (let j = 0; j < 6; j++) {
          const y = cy + half * NODES[j];
          sum += ex * MASSES[j] * Math.exp(-0.5 * y * y) * log(mx + sx * x, my + sy * y);
        }
      }
      return sum * half * half / (2 * Math.PI);
    };
    const nearest = (centre, half) => Math.max(Math.abs(centre) - half, 0);
    const tooWide = (cx, cy, half) => {
      if (logWeight - 0.5 * (nearest(cx, half) ** 2 + nearest(cy, half) ** 2) < -25) return false;
      return shapes.some((s) => half > 2 * s.narrow && Math.hypot((cx - s.x) / s.rx, (cy - s.y) / s.ry) <= 6 + half * Math.SQRT2 / s.narrow);
    };
    const cell = (cx, cy, half, whole) => {
      const quarter = half / 2;
      const corners = [[cx - quarter, cy - quarter], [cx + quarter, cy - quarter], [cx - quarter, cy + quarter], [cx + quarter, cy + quarter]];
      if (tooWide(cx, cy, half)) return corners.reduce((sum, [x, y]) => sum + cell(x, y, quarter, undefined), 0);
      const parts = corners.map(([x, y]) => rule(x, y, quarter)), sum = parts[0] + parts[1] + parts[2] + parts[3];
      // A square may err by its share of probability, and by a little more in the tails, where no share is left.
      const share = half * half * Math.exp(-0.5 * (nearest(cx, half) ** 2 + nearest(cy, half) ** 2)) + 1 / 512;
      if (weight * Math.abs(sum - (whole ?? rule(cx, cy, half))) <= tolerance * weight * share || half < 1e-6) return sum;
      return corners.reduce((found, [x, y], k) => found + cell(x, y, quarter, parts[k]), 0);
    };
    let mean = 0;
    for (let cx = 1 - REACH; cx < REACH; cx += 2) for (let cy = 1 - REACH; cy < REACH; cy += 2) mean += cell(cx, cy, 1, undefined);
    total += weight * mean;
  }
  return total;
}

/** Precision, recall, both entropies' difference from them: what `distilscope mog` prints of a student q of p, whose entropy is known. */
function measured(q, p, entropyOfP) {
  const precision = expectedLogProb(q, p), recall = expectedLogProb(p, q), entropy = -expectedLogProb(q, q);
  return { precision, recall, entropy, klCandidate: -entropy - precision, klReference: -entropyOfP - recall };
}

/** |⋃ σ(k) over teacher components of selected weight above ε| − K'', σ(k) being the components of p* that k is most responsible for. */
function difficulty(truth, teacher, selectedWeights, studentComponents, epsilon) {
  const covered = truth.filter(([, x, y]) => {
    const each = teacher.map((component) => logDensity([component])(x, y));
    return selectedWeights[each.indexOf(Math.max(...each))] > epsilon;
  });
  return covered.length - studentComponents;
}

/** The lines along which a function on a square grid has a level, by marching squares. `values` row by row; `place` gives a point's text. */
function contour(values, side, level, place) {
  const next = new Map(); // from each end of a segment to its other ends: lines are joined, so that dashes run along them
  const join = (one, other) => { next.has(one) ? next.get(one).push(other) : next.set(one, [other]); };
  for (let row = 0; row + 1 < side; row++) {
    for (let column = 0; column + 1 < side; column++) {
      const at = row * side + column;
      const corners = [[column, row, values[at]], [column + 1, row, values[at + 1]], [column + 1, row + 1, values[at + side + 1]], [column, row + 1, values[at + side]]];
      const crossings = [];
      for (let k = 0; k < 4; k++) {
        const [x, y, v] = corners[k], [x2, y2, v2] = corners[(k + 1) % 4];
        if (v >= level !== v2 >= level) {
          const part = (level - v) / (v2 - v);
          crossings.push(place(x + part * (x2 - x), y + part * (y2 - y)));
        }
      }
      for (let k = 0; k + 1 < crossings.length; k += 2) {
        join(crossings[k], crossings[k + 1]);
        join(crossings[k + 1], crossings[k]);
      }
    }
  }
  const path = [], seen = new Set();
  const walk = (from) => {
    let here = from, line = `M${here}`;
    while (here !== undefined && !seen.has(here)) {
      seen.add(here);
      const ahead = next.get(here).find((one) => !seen.has(one));
      line += ahead !== undefined ? `L${ahead}` : next.get(here).includes(from) ? "Z" : "";
      here = ahead;
    }
    path.push(line);
  };
  // Open lines first, from their ends; what is left is closed.
  for (const [place, ends] of next) if (ends.length === 1 && !seen.has(place)) walk(place);
  for (const place of next.keys()) if (!seen.has(place)) walk(place);
  return path.join("");
}
