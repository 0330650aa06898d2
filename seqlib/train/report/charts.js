// The charts of a report, drawn as SVG from the JSON that stands in their places: lines, bars, a heat map, shares of a
// whole. Colours and type come from the page's style sheet, by class.
"use strict";
const WIDTH = 660, HEIGHT = 250, LEFT = 72, RIGHT = 14, TOP = 14, BOTTOM = 34, CELL = 24;

const escaped = (text) => String(text).replace(/[&<>"']/g, (c) => `&#${c.charCodeAt(0)};`);
const grouped = (value, most) => value.toLocaleString("en-US", { maximumFractionDigits: most });

// A number as an axis or a tooltip shows it.
function shown(value) {
  if (value === 0) return "0";
  if (Math.abs(value) >= 10000) return grouped(value, 0);
  if (Math.abs(value) < 0.001) return value.toExponential(1);
  return value.toLocaleString("en-US", { maximumSignificantDigits: 4 });
}

// About `count` round numbers that cover low … high.
function ticks(low, high, count = 5) {
  const rough = (high - low || Math.abs(high) || 1) / count;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 2.5, 5, 10].map((m) => m * power).find((size) => size >= rough * 0.999);
  const first = Math.floor(low / step + 1e-9);
  const last = Math.max(Math.ceil(high / step - 1e-9), first + 1);
  return Array.from({ length: last - first + 1 }, (_, n) => (first + n) * step);
}

const scale = (low, high, start, end) => (value) => start + ((value - low) / (high - low || 1)) * (end - start);

function axes(marks, steps, x, y) {
  const line = (mark) =>
    `<line class="grid" x1="${LEFT}" x2="${WIDTH - RIGHT}" y1="${y(mark)}" y2="${y(mark)}"/>` +
    `<text class="tick" text-anchor="end" x="${LEFT - 8}" y="${y(mark) + 4}">${shown(mark)}</text>`;
  const label = (at) =>
    `<text class="tick" text-anchor="middle" x="${x(at)}" y="${HEIGHT - 12}">${shown(at)}</text>`;
  return marks.map(line).join("") + steps.map(label).join("");
}

function legend(names) {
  const items = names.map((name, n) => `<li><i class="s${n}"></i>${escaped(name)}</li>`);
  return `<ul class="legend">${items.join("")}</ul>`;
}

function figure(body, { label, unit }, below) {
  const caption = escaped(label) + (unit ? ` <small>${escaped(unit)}</small>` : "");
  return `<figure><figcaption>${caption}</figcaption><svg viewBox="0 0 ${WIDTH} ${HEIGHT}" role="img" ` +
    `aria-label="${escaped(label)}">${body}</svg>${below}</figure>`;
}

// Lines over steps, with a legend where there are several.
function lines(data) {
  const points = data.series.flatMap((one) => one.points);
  const xs = points.map((point) => point[0]), ys = points.map((point) => point[1]);
  const left = Math.min(...xs), right = Math.max(...xs, left + 1);
  const marks = ticks(Math.min(...ys), Math.max(...ys));
  const whole = (at) => left <= at && at <= right && Math.abs(at - Math.round(at)) < 1e-6;
  const x = scale(left, right, LEFT, WIDTH - RIGHT);
  const y = scale(marks[0], marks[marks.length - 1], HEIGHT - BOTTOM, TOP);
  const dot = (one, n) => ([step, value]) =>
    `<circle class="dot s${n}" cx="${x(step)}" cy="${y(value)}" r="3.2">` +
    `<title>step ${grouped(step, 0)}: ${escaped(one.name)} ${shown(value)}</title></circle>`;
  const drawn = data.series.map((one, n) => {
    const path = one.points.map(([step, value]) => `${x(step).toFixed(1)},${y(value).toFixed(1)}`);
    const dots = one.dots || path.length === 1 ? one.points.map(dot(one, n)) : [];
    return `<polyline class="line s${n}" points="${path.join(" ")}"/>${dots.join("")}`;
  });
  const names = data.series.map((one) => one.name);
  const body = axes(marks, ticks(left, right).filter(whole), x, y) + drawn.join("");
  return figure(body, data, names.length > 1 ? legend(names) : "");
}

// Bars of several groups side by side; points are [lower edge, height].
function bars({ groups, edges, label }) {
  const last = edges[edges.length - 1], count = groups.length;
  const marks = ticks(0, Math.max(0, ...groups.flatMap((one) => one.points.map((point) => point[1]))) || 1);
  const x = scale(edges[0], last, LEFT, WIDTH - RIGHT);
  const y = scale(0, marks[marks.length - 1], HEIGHT - BOTTOM, TOP);
  const width = ((x(edges[1]) - x(edges[0])) * 0.86) / count;
  const bar = (one, place) => ([edge, height]) =>
    `<rect class="bar s${place}" x="${x(edge) + place * width + 0.07 * count * width}" y="${y(height)}" ` +
    `width="${width}" height="${y(0) - y(height)}">` +
    `<title>${grouped(edge, 0)} tokens: ${grouped(height, 0)} (${escaped(one.name)})</title></rect>`;
  const inside = ticks(edges[0], last, 8).filter((at) => edges[0] <= at && at <= last);
  const drawn = groups.flatMap((one, place) => one.points.map(bar(one, place)));
  return figure(axes(marks, inside, x, y) + drawn.join(""), { label }, legend(groups.map((one) => one.name)));
}

// Weights [rows, columns] in 0 … 1 as squares, darker for more, with labels left and above.
function heat({ weights, rows, columns }) {
  const longest = (texts) => Math.max(...texts.map((text) => text.length));
  const left = 12 + 8 * longest(rows), top = 12 + 6 * longest(columns);
  const width = left + CELL * columns.length + 90, height = top + CELL * rows.length + 8;
  const head = columns.map((text, j) => {
    const place = `translate(${left + CELL * (j + 0.5) + 4},${top - 8}) rotate(-50)`;
    return `<text class="label" transform="${place}">${escaped(text)}</text>`;
  });
  const cell = (i) => (other, j) =>
    `<rect class="cell" x="${left + CELL * j}" y="${top + CELL * i}" width="${CELL - 2}" height="${CELL - 2}" rx="3" ` +
    `style="fill-opacity:${0.04 + 0.96 * Math.min(1, weights[i][j])}">` +
    `<title>${escaped(rows[i])} ← ${escaped(other)}: ${weights[i][j].toFixed(3)}</title></rect>`;
  const body = rows.map((text, i) =>
    `<text class="label" text-anchor="end" x="${left - 8}" y="${top + CELL * i + 16}">${escaped(text)}</text>` +
    columns.map(cell(i)).join(""));
  return `<svg class="heat" viewBox="0 0 ${width} ${height}" style="max-width:${width}px" role="img">` +
    `${head.join("")}${body.join("")}</svg>`;
}

// Shares of a whole as one stacked bar with a legend; values are amounts, not shares.
function shares({ parts }) {
  const whole = parts.reduce((sum, part) => sum + part[1], 0) || 1;
  const share = (value, digits) => ((100 * value) / whole).toFixed(digits);
  const piece = ([name, value], n) =>
    `<span class="part s${n}" style="width:${share(value, 2)}%" title="${escaped(name)}: ${share(value, 1)} %"></span>`;
  return `<div class="shares">${parts.map(piece).join("")}</div>` +
    legend(parts.map(([name, value]) => `${name} ${share(value, 0)} %`));
}

const KINDS = { lines, bars, heat, shares };
if (typeof document === "undefined") {
  module.exports = { ...KINDS, ticks };
} else {
  for (const place of document.querySelectorAll("[data-chart]")) {
    place.innerHTML = KINDS[place.dataset.chart](JSON.parse(place.textContent));
  }
}
