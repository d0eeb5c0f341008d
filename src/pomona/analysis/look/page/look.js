import { choosePictures, drawDots } from "./drawing.js";

const get = (id) => document.getElementById(id);
const canvas = get("canvas"), pen = canvas.getContext("2d", { alpha: false });
const tip = get("tip"), said = get("said");
const dark = window.matchMedia("(prefers-color-scheme: dark)");
const number = (value) => value.toLocaleString("en");
const images = (count) => `${number(count)} ${count === 1 ? "image" : "images"}`;

function make(kind, words, name) {
  const made = document.createElement(kind);
  if (words !== undefined) made.textContent = words;
  if (name) made.className = name;
  return made;
}

async function ask(address, options) {
  const answer = await fetch(address, options);
  if (!answer.ok) throw new Error(await answer.text());
  return answer;
}

const table = await (await ask("table.json")).json();
const { placed, rows: total } = table;
const rows = await readPoints();
const NO_LABEL = table.labels.length;

async function readPoints() {
  const bytes = await (await ask("points")).arrayBuffer();
  let at = 0;
  const take = (Kind, count) => {
    const part = new Kind(bytes, at, count);
    at += part.byteLength;
    return part;
  };
  const label = take(Int32Array, total);
  const share = (part, turn) => Float32Array.from(part, (v) => turn(v / 65535));
  const x = share(take(Uint16Array, placed), (v) => v);
  const y = share(take(Uint16Array, placed), (v) => 1 - v);
  const status = take(Uint8Array, total);
  for (let i = 0; i < total; i++) if (label[i] < 0) label[i] = table.labels.length;
  return { x, y, label, status, shown: new Uint8Array(placed).fill(1), strong: new Uint8Array(total) };
}

// Colours ----------------------------------------------------------------------------------------

// After Okabe and Ito, as in the report.
const LIGHT = ["#0072b2", "#d98200", "#008f68", "#b8202e", "#c2569b", "#3aa0dd", "#3d5a80",
  "#4d9221", "#6b4fa1", "#8c6d31", "#d55e00", "#a05d86"];
const DARK = ["#4fa8e0", "#e69f00", "#2fc195", "#f0636f", "#e08fc0", "#8fd0f7", "#8fb0d8",
  "#8fce60", "#a78be0", "#c9a765", "#f0803c", "#d4a3c2"];

function colour(label) {
  if (label === NO_LABEL && NO_LABEL > 0) return dark.matches ? "#8d877e" : "#8a847b";
  const known = dark.matches ? DARK : LIGHT;
  if (label < known.length) return known[label];
  // Further ones by the golden angle: neighbours in the list are far apart on the wheel.
  return `hsl(${(label * 137.5) % 360} 40% ${dark.matches ? 68 : 48}%)`;
}

const probe = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
const converted = new Map();
function channels(name) {
  if (!converted.has(name)) {
    probe.fillStyle = name;
    probe.fillRect(0, 0, 1, 1);
    converted.set(name, [...probe.getImageData(0, 0, 1, 1).data.slice(0, 3)]);
  }
  return converted.get(name);
}
const variable = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

// The map ----------------------------------------------------------------------------------------

let width = 0, height = 0, ratio = 1, paper = null;
let view = { scale: 1, left: 0, top: 0 };  // in CSS pixels
let at = -1;  // the row under the pointer or the keys
let opened = -1;  // the row in the panel
let lasso = null, withPictures = true;
let list = null;  // {title, rows: Uint32Array}
let drawnPictures = [], side = 0, waiting = false;

const pixel = (i) => [rows.x[i] * view.scale + view.left, rows.y[i] * view.scale + view.top];

function reset() {
  const scale = Math.min(width, height) * 0.94;
  view = { scale, left: (width - scale) / 2, top: (height - scale) / 2 };
  draw();
}

function zoom(factor, x = width / 2, y = height / 2) {
  const least = Math.min(width, height);
  const scale = Math.min(Math.max(view.scale * factor, least * 0.5), least * 4000);
  const by = scale / view.scale;
  view = { scale, left: x - (x - view.left) * by, top: y - (y - view.top) * by };
  draw();
}

function draw() {
  if (waiting) return;
  waiting = true;
  requestAnimationFrame(() => { waiting = false; paint(); });
}

function paint() {
  if (!width || !height) return;
  const started = performance.now();
  if (!paper || paper.width !== canvas.width || paper.height !== canvas.height)
    paper = pen.createImageData(canvas.width, canvas.height);
  const [red, green, blue] = channels(variable("--card"));
  new Uint32Array(paper.data.buffer).fill((255 << 24) | (blue << 16) | (green << 8) | red);
  const near = view.scale / Math.min(width, height);
  const size = Math.max(0.8, 60 / Math.sqrt(placed));
  const radius = Math.min(6, Math.min(4, size) * Math.pow(Math.max(near, 1), 0.35)) * ratio;
  const device = { scale: view.scale * ratio, left: view.left * ratio, top: view.top * ratio };
  drawDots(paper.data, canvas.width, canvas.height, rows, placed, device, radius,
    (label) => channels(colour(label)), list ? 0.22 : 1);
  pen.putImageData(paper, 0, 0);
  pen.setTransform(ratio, 0, 0, ratio, 0, 0);
  drawnPictures = [];
  if (withPictures) {
    let chosen;
    [chosen, side] = choosePictures(rows, placed, view, width, height, Boolean(list));
    for (const i of chosen) if (drawPicture(i)) drawnPictures.push(i);
    load(chosen);
  }
  pen.strokeStyle = variable("--ink");
  if (opened >= 0 && opened < placed) ring(opened, 4);
  if (at >= 0 && at !== opened) ring(at, 2);
  if (lasso) {
    pen.lineWidth = 2;
    pen.setLineDash([5, 4]);
    pen.beginPath();
    lasso.forEach(([x, y]) => pen.lineTo(x, y));
    pen.closePath();
    pen.stroke();
    pen.setLineDash([]);
  }
  canvas.dataset.painted = (performance.now() - started).toFixed(1);
}

function drawPicture(i) {
  const picture = kept.get(i);
  if (!picture) return false;
  const [x, y] = pixel(i);
  const by = side / Math.max(picture.width, picture.height);
  const w = picture.width * by, h = picture.height * by;
  pen.fillStyle = colour(rows.label[i]);
  pen.fillRect(x - w / 2 - 2, y - h / 2 - 2, w + 4, h + 4);
  pen.drawImage(picture, x - w / 2, y - h / 2, w, h);
  return true;
}

function ring(i, thick) {
  const [x, y] = pixel(i);
  pen.lineWidth = thick;
  pen.beginPath();
  if (drawnPictures.includes(i)) pen.rect(x - side / 2 - 3, y - side / 2 - 3, side + 6, side + 6);
  else pen.arc(x, y, 9, 0, 2 * Math.PI);
  pen.stroke();
}

// Pictures of the map, the latest kept: an ImageBitmap, or null if the file has none.
const kept = new Map(), KEPT = 1000, AT_ONCE = 6;
let queue = [], running = 0;

function load(chosen) {
  for (const i of chosen) if (kept.has(i)) { const p = kept.get(i); kept.delete(i); kept.set(i, p); }
  queue = chosen.filter((i) => !kept.has(i));
  while (running < AT_ONCE && queue.length) next();
}

async function next() {
  const i = queue.shift();
  running++;
  kept.set(i, null);
  try {
    const answer = await ask(`small?row=${i}`);
    if (answer.status === 200) kept.set(i, await createImageBitmap(await answer.blob()));
    while (kept.size > KEPT) kept.delete(kept.keys().next().value);
    draw();
  } catch {
    kept.delete(i);  // the server has ended: the next drawing asks again
  } finally {
    running--;
    if (queue.length) next();
  }
}

function nearest(x, y, within) {
  for (let k = drawnPictures.length - 1; k >= 0; k--) {
    const [px, py] = pixel(drawnPictures[k]);
    if (Math.abs(px - x) <= side / 2 && Math.abs(py - y) <= side / 2) return drawnPictures[k];
  }
  let best = -1, distance = within * within;
  for (let i = 0; i < placed; i++) {
    if (!rows.shown[i]) continue;
    const dx = rows.x[i] * view.scale + view.left - x, dy = rows.y[i] * view.scale + view.top - y;
    const d = dx * dx + dy * dy;
    if (d < distance) { best = i; distance = d; }
  }
  return best;
}

// Details of rows --------------------------------------------------------------------------------

const details = new Map();
async function detail(numbers) {
  const missing = numbers.filter((i) => !details.has(i));
  for (let start = 0; start < missing.length; start += 200) {
    const part = missing.slice(start, start + 200).join(",");
    for (const row of await (await ask(`rows?ids=${part}`)).json()) details.set(row.row, row);
  }
  return numbers.map((i) => details.get(i));
}

const labelOf = (row) => (row.label === null ? "" : row.label);
const fileName = (path) => path.split("/").pop();

function picture(row, kind, text) {
  const image = make("img");
  image.alt = text;
  image.addEventListener("error", () => image.replaceWith(make("span", "no picture", "none")));
  image.src = `${kind}?row=${row}`;
  return image;
}

function card(row, text) {
  const button = make("button");
  button.type = "button";
  button.title = row.path;
  button.dataset.row = row.row;
  button.append(picture(row.row, "small", `${labelOf(row)} ${fileName(row.path)}`), make("span", text));
  button.addEventListener("click", () => open(row.row));
  return button;
}

async function open(i) {
  opened = i;
  draw();
  const [row] = await detail([i]);
  if (opened !== i) return;
  get("image").hidden = false;
  get("image-title").textContent = labelOf(row) || fileName(row.path);
  get("large").replaceChildren(picture(i, "large", fileName(row.path)));
  const size = row.width ? `${row.width} x ${row.height}` : "";
  const state = row.status === "ok" ? "" : `${row.status}: ${row.error || ""}`;
  get("facts").textContent = [size, state].filter(Boolean).join(", ");
  get("path").textContent = row.path;
  get("copy").textContent = "Copy path";
  get("near").replaceChildren();
  get("near-title").hidden = i >= placed;
  said.textContent = `${labelOf(row)} ${row.path}`;
  get("image").scrollIntoView({ block: "nearest" });
  if (i >= placed) return;
  const found = await (await ask(`near?row=${i}&k=12`)).json();
  const near = await detail(found.map(([j]) => j));
  if (opened !== i) return;
  get("near").replaceChildren(...near.map((r, k) => card(r, `${found[k][1].toFixed(2)} ${labelOf(r)}`)));
}

function closeImage() {
  opened = -1;
  get("image").hidden = true;
  draw();
}

// The list: what is selected, or was found ---------------------------------------------------------

const STEP = 60;

function choose(title, chosen, scores) {
  list = chosen.length ? { title, rows: Uint32Array.from(chosen), scores } : null;
  rows.strong.fill(0);
  for (const i of chosen) rows.strong[i] = 1;
  get("list").hidden = !list;
  said.textContent = `${title}: ${images(chosen.length)}`;
  if (list) {
    get("list-title").textContent = `${title}: ${images(chosen.length)}`;
    const by = new Map();
    for (const i of chosen) by.set(rows.label[i], (by.get(rows.label[i]) || 0) + 1);
    get("list-classes").textContent = NO_LABEL === 0 ? "" :
      [...by].sort((a, b) => b[1] - a[1]).slice(0, 8)
        .map(([label, n]) => `${nameOf(label)} ${number(n)}`).join(", ");
    get("list-pictures").replaceChildren();
    more();
    get("list").scrollIntoView({ block: "nearest" });
  }
  draw();
}

async function more() {
  const of = list, start = get("list-pictures").childElementCount;
  const part = [...of.rows.slice(start, start + STEP)];
  const found = await detail(part);
  if (list !== of || get("list-pictures").childElementCount !== start) return;
  const text = (row, k) => (of.scores ? of.scores[start + k].toFixed(3) : labelOf(row) || fileName(row.path));
  get("list-pictures").append(...found.map((row, k) => card(row, text(row, k))));
  get("more").hidden = start + STEP >= of.rows.length;
}

async function save(kind) {
  try {
    const answer = await ask(`export?as=${kind}`, { method: "POST", body: list.rows });
    const link = make("a");
    link.href = URL.createObjectURL(await answer.blob());
    link.download = `selection.${kind}`;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
  } catch (error) {
    get("list-classes").textContent = error.message;
  }
}

// Classes and files without a vector ----------------------------------------------------------------

const nameOf = (label) => (label === NO_LABEL ? "(no label)" : table.labels[label]);
const sizes = new Map();
for (let i = 0; i < placed; i++) sizes.set(rows.label[i], (sizes.get(rows.label[i]) || 0) + 1);
const hiddenClasses = new Set();
let order = "count", only = -1;
const CLASS_ROWS = 300;

function filter() {
  for (let i = 0; i < placed; i++) rows.shown[i] = hiddenClasses.has(rows.label[i]) ? 0 : 1;
  if (at >= 0 && !rows.shown[at]) show(-1);
  for (const row of get("class-rows").children) {
    const label = Number(row.dataset.label);
    row.querySelector("input").checked = !hiddenClasses.has(label);
    row.classList.toggle("only", label === only);
  }
  draw();
}

function isolate(label) {
  only = only === label ? -1 : label;
  hiddenClasses.clear();
  if (only >= 0) for (const other of sizes.keys()) if (other !== label) hiddenClasses.add(other);
  said.textContent = only >= 0 ? `only ${nameOf(label)}` : "all classes";
  filter();
}

function listClasses() {
  const words = get("class-find").value.toLowerCase();
  const labels = [...sizes.keys()].filter((label) => nameOf(label).toLowerCase().includes(words));
  labels.sort(order === "name" ? (a, b) => nameOf(a).localeCompare(nameOf(b), undefined, { numeric: true })
    : (a, b) => sizes.get(b) - sizes.get(a));
  get("class-rows").replaceChildren(...labels.slice(0, CLASS_ROWS).map((label) => {
    const row = make("tr"), box = make("input"), name = make("button", nameOf(label)), dot = make("i");
    row.dataset.label = label;
    box.type = "checkbox";
    box.setAttribute("aria-label", `show ${nameOf(label)}`);
    box.addEventListener("change", () => {
      only = -1;
      if (box.checked) hiddenClasses.delete(label); else hiddenClasses.add(label);
      filter();
    });
    name.type = "button";
    name.title = "Show only this class; again: all";
    name.addEventListener("click", () => isolate(label));
    dot.style.background = colour(label);
    const cells = [make("td"), make("td"), make("td", number(sizes.get(label)))];
    cells[0].append(box);
    cells[1].append(dot, name);
    row.append(...cells);
    return row;
  }));
  get("class-rest").textContent = labels.length > CLASS_ROWS
    ? `${number(CLASS_ROWS)} of ${number(labels.length)} classes: type a part of a name` : "";
  filter();
}

function listFailed() {
  const by = new Map();
  for (let i = placed; i < total; i++) {
    if (!by.has(rows.status[i])) by.set(rows.status[i], []);
    by.get(rows.status[i]).push(i);
  }
  get("failed").hidden = by.size === 0;
  get("statuses").replaceChildren(...[...by].map(([status, failed]) => {
    const button = make("button", `${number(failed.length)} ${table.statuses[status]}`);
    button.type = "button";
    button.addEventListener("click", () => choose(table.statuses[status], failed));
    return button;
  }));
}

// Pointer ------------------------------------------------------------------------------------------

let hovering = 0;
function show(i) {
  at = i;
  tip.hidden = i < 0;
  clearTimeout(hovering);
  if (i >= 0) {
    const name = make("span");
    const tell = ([row]) => { name.textContent = fileName(row.path); };
    if (details.has(i)) tell([details.get(i)]);
    else hovering = setTimeout(() => detail([i]).then(tell, () => {}), 60);
    const label = NO_LABEL ? nameOf(rows.label[i]) : "";
    tip.replaceChildren(picture(i, "small", label), make("b", label), name);
    const [x, y] = pixel(i);
    const w = tip.offsetWidth, h = tip.offsetHeight, away = side / 2 + 10;
    tip.style.left = `${Math.max(0, x + away + w > width ? x - away - w : x + away)}px`;
    tip.style.top = `${Math.min(Math.max(0, y - h / 2), Math.max(0, height - h))}px`;
  }
  draw();
}

const pointers = new Map();
let moved = 0, spread = 0;
const place = (event) => [event.offsetX, event.offsetY];
const lassoOn = () => get("lasso").getAttribute("aria-pressed") === "true";

canvas.addEventListener("pointerdown", (event) => {
  canvas.setPointerCapture(event.pointerId);
  pointers.set(event.pointerId, place(event));
  if (pointers.size === 1) {
    moved = 0;
    lasso = event.shiftKey || lassoOn() ? [place(event)] : null;
  } else { lasso = null; spread = 0; moved = 99; }
});
canvas.addEventListener("pointermove", (event) => {
  const [x, y] = place(event), before = pointers.get(event.pointerId);
  if (!before) {
    const i = nearest(x, y, 16);
    if (i !== at) show(i);
    return;
  }
  pointers.set(event.pointerId, [x, y]);
  moved += Math.abs(x - before[0]) + Math.abs(y - before[1]);
  if (lasso) { lasso.push([x, y]); draw(); return; }
  const share = pointers.size;
  view = { ...view, left: view.left + (x - before[0]) / share, top: view.top + (y - before[1]) / share };
  if (share === 2) {
    const [a, b] = [...pointers.values()], now = Math.hypot(a[0] - b[0], a[1] - b[1]);
    if (spread) zoom(now / spread, (a[0] + b[0]) / 2, (a[1] + b[1]) / 2);
    spread = now;
  }
  tip.hidden = true;
  draw();
});
function release(event) {
  if (!pointers.delete(event.pointerId)) return;
  if (lasso && moved > 8) {
    const found = [];
    for (let i = 0; i < placed; i++) if (rows.shown[i] && inside(...pixel(i))) found.push(i);
    lasso = null;
    choose("Selected", found);
  } else if (moved < 8) {
    const i = nearest(...place(event), event.pointerType === "mouse" ? 16 : 28);
    if (i >= 0) open(i);
  }
  lasso = null;
  draw();
}
canvas.addEventListener("pointerup", release);
canvas.addEventListener("pointercancel", (event) => { pointers.delete(event.pointerId); lasso = null; draw(); });
canvas.addEventListener("pointerleave", () => show(-1));
canvas.addEventListener("wheel", (event) => {
  event.preventDefault();
  zoom(Math.exp(-event.deltaY * (event.ctrlKey ? 0.01 : 0.0015)), ...place(event));
}, { passive: false });

function inside(x, y) {
  let odd = false;
  for (let a = 0, b = lasso.length - 1; a < lasso.length; b = a++) {
    const [ax, ay] = lasso[a], [bx, by] = lasso[b];
    if (ay > y !== by > y && x < ((bx - ax) * (y - ay)) / (by - ay) + ax) odd = !odd;
  }
  return odd;
}

// Keys ---------------------------------------------------------------------------------------------

const WAYS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

function step(way) {
  let best = -1, least = Infinity;
  if (at < 0) best = nearest(width / 2, height / 2, 1e6);
  else {
    const [x, y] = pixel(at);
    for (let i = 0; i < placed; i++) {
      if (i === at || !rows.shown[i]) continue;
      const [px, py] = pixel(i);
      const along = (px - x) * way[0] + (py - y) * way[1];
      const across = Math.abs((px - x) * way[1]) + Math.abs((py - y) * way[0]);
      if (along > 0 && across <= along && along + across < least) { least = along + across; best = i; }
    }
  }
  if (best < 0) return;
  const [px, py] = pixel(best);
  if (px < 20 || px > width - 20) view.left += width / 2 - px;
  if (py < 20 || py > height - 20) view.top += height / 2 - py;
  show(best);
  detail([best]).then(([row]) => { said.textContent = `${labelOf(row)} ${row.path}`; });
}

const KEYS = {
  "+": () => zoom(1.4), "=": () => zoom(1.4), "-": () => zoom(1 / 1.4), 0: reset,
  Enter: () => { if (at >= 0) open(at); },
  Escape: () => { show(-1); closeImage(); choose("Selected", []); },
  l: () => get("lasso").click(), p: () => get("pictures").click(),
};
canvas.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.altKey || event.metaKey) return;
  if (WAYS[event.key]) step(WAYS[event.key]);
  else if (KEYS[event.key]) KEYS[event.key]();
  else return;
  event.preventDefault();
});
canvas.addEventListener("blur", () => show(-1));
document.addEventListener("keydown", (event) => {
  if (event.key === "/" && table.text && event.target.tagName !== "INPUT") {
    event.preventDefault();
    get("words").focus();
  }
});

// Buttons ------------------------------------------------------------------------------------------

function toggle(button) {
  const on = button.getAttribute("aria-pressed") !== "true";
  button.setAttribute("aria-pressed", String(on));
  return on;
}
get("zoom-in").addEventListener("click", () => zoom(1.4));
get("zoom-out").addEventListener("click", () => zoom(1 / 1.4));
get("reset").addEventListener("click", reset);
get("lasso").addEventListener("click", () => canvas.classList.toggle("lasso", toggle(get("lasso"))));
get("pictures").addEventListener("click", () => { withPictures = toggle(get("pictures")); draw(); });
get("take").addEventListener("click", () => {
  const found = [];
  for (let i = 0; i < placed; i++) if (rows.shown[i]) found.push(i);
  choose("Shown", found);
});
get("image-close").addEventListener("click", closeImage);
get("list-close").addEventListener("click", () => choose("Selected", []));
get("more").addEventListener("click", more);
get("csv").addEventListener("click", () => save("csv"));
get("txt").addEventListener("click", () => save("txt"));
get("copy").addEventListener("click", async () => {
  await navigator.clipboard.writeText(get("path").textContent);
  get("copy").textContent = "Copied";
});
get("by-name").addEventListener("click", () => { order = "name"; listClasses(); });
get("by-count").addEventListener("click", () => { order = "count"; listClasses(); });
get("class-find").addEventListener("input", listClasses);
get("search").addEventListener("submit", async (event) => {
  event.preventDefault();
  const words = get("words").value.trim();
  if (!words) return;
  try {
    const found = await (await ask(`text?k=60&q=${encodeURIComponent(words)}`)).json();
    choose(words, found.map(([i]) => i), found.map(([, score]) => score));
  } catch (error) {
    get("counts").textContent = error.message;
  }
});

// Start --------------------------------------------------------------------------------------------

function resize() {
  ratio = window.devicePixelRatio || 1;
  const fresh = width === 0, before = [width, height];
  width = canvas.clientWidth;
  height = canvas.clientHeight;
  canvas.width = Math.round(width * ratio);
  canvas.height = Math.round(height * ratio);
  if (fresh) { reset(); return; }
  // What was in the middle stays there, at the same size relative to the map.
  view = { ...view, left: view.left + (width - before[0]) / 2, top: view.top + (height - before[1]) / 2 };
  zoom(Math.min(width, height) / Math.min(...before));
}

document.title = `${table.name}: Pomona`;
get("name").textContent = table.name;
get("counts").textContent = `${images(placed)}${NO_LABEL ? `, ${number(NO_LABEL)} classes` : ""}`;
get("search").hidden = !table.text;
get("classes").hidden = NO_LABEL === 0;
get("class-find").hidden = NO_LABEL < 20;
get("how").textContent = table.map === "pca"
  ? "The axes are the two directions in which the vectors differ most (PCA)."
  : "Images that are near each other have similar vectors (t-SNE). Large distances mean little.";
listClasses();
listFailed();
new ResizeObserver(resize).observe(canvas);
dark.addEventListener("change", () => { listClasses(); draw(); });
resize();
document.body.dataset.ready = "true";
