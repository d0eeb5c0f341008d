"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const count = data.x.length;
  const canvas = document.getElementById("canvas");
  const pen = canvas.getContext("2d");
  const tip = document.getElementById("tip");
  const said = document.getElementById("said");
  const lassoButton = document.getElementById("lasso");
  const dark = window.matchMedia("(prefers-color-scheme: dark)");

  // After Okabe and Ito; each is told apart from the paper in light and in dark.
  // Two that are alike, to all or to the colour-blind, lie far apart in the list.
  const LIGHT = ["#0072b2", "#d98200", "#008f68", "#b8202e", "#c2569b", "#3aa0dd", "#3d5a80",
    "#4d9221", "#6b4fa1", "#8c6d31", "#d55e00", "#a05d86"];
  const DARK = ["#4fa8e0", "#e69f00", "#2fc195", "#f0636f", "#e08fc0", "#8fd0f7", "#8fb0d8",
    "#8fce60", "#a78be0", "#c9a765", "#f0803c", "#d4a3c2"];
  const colour = (label) => {
    const known = dark.matches ? DARK : LIGHT;
    if (label < known.length) return known[label];
    // Further ones by the golden angle: neighbours in the list are far apart on the wheel.
    return `hsl(${(label * 137.5) % 360} 40% ${dark.matches ? 68 : 48}%)`;
  };

  const shown = data.labels.map(() => true);
  const chosen = new Set();
  let width = 0, height = 0, scale = 1, left = 0, top = 0;  // pixels = place * scale + left, top
  let at = -1, focused = false, lasso = null;

  const pixel = (i) => [data.x[i] * scale + left, data.y[i] * scale + top];
  const visible = (i) => shown[data.label[i]];
  const full = (i) => data.start + data.path[i];

  function reset() {
    scale = Math.min(width, height) * 0.92;
    left = (width - scale) / 2;
    top = (height - scale) / 2;
    draw();
  }

  function zoom(factor, x = width / 2, y = height / 2) {
    const wanted = Math.min(Math.max(scale * factor, Math.min(width, height) * 0.5), 200000);
    left = x - ((x - left) * wanted) / scale;
    top = y - ((y - top) * wanted) / scale;
    scale = wanted;
    draw();
  }

  function draw() {
    const style = getComputedStyle(document.documentElement);
    pen.clearRect(0, 0, width, height);
    const near = scale / Math.min(width, height);
    const radius = Math.min(9, Math.max(2.2, 60 / Math.sqrt(count)) * Math.pow(near, 0.35));
    // What is not chosen steps back.
    pen.globalAlpha = chosen.size ? 0.18 : 0.8;
    // Largest class first, so that small ones lie on top.
    for (let label = 0; label < data.labels.length; label++) {
      if (!shown[label]) continue;
      pen.fillStyle = colour(label);
      pen.beginPath();
      for (const i of members[label]) {
        const [x, y] = pixel(i);
        if (x < -9 || y < -9 || x > width + 9 || y > height + 9) continue;
        pen.moveTo(x + radius, y);
        pen.arc(x, y, radius, 0, 2 * Math.PI);
      }
      pen.fill();
    }
    pen.globalAlpha = 1;
    pen.strokeStyle = style.getPropertyValue("--ink");
    for (const i of chosen) {
      const [x, y] = pixel(i);
      pen.fillStyle = colour(data.label[i]);
      pen.beginPath();
      pen.arc(x, y, radius + 1, 0, 2 * Math.PI);
      pen.fill();
    }
    if (at >= 0) {
      pen.lineWidth = 3;
      ring(at, radius + 4);
    }
    if (lasso) {
      pen.setLineDash([5, 4]);
      pen.beginPath();
      lasso.forEach(([x, y]) => pen.lineTo(x, y));
      pen.closePath();
      pen.stroke();
      pen.setLineDash([]);
    }
  }

  function ring(i, radius) {
    const [x, y] = pixel(i);
    pen.beginPath();
    pen.arc(x, y, radius, 0, 2 * Math.PI);
    pen.stroke();
  }

  function nearest(x, y, within) {
    let best = -1, distance = within * within;
    for (let i = 0; i < count; i++) {
      if (!visible(i)) continue;
      const [px, py] = pixel(i);
      const d = (px - x) * (px - x) + (py - y) * (py - y);
      if (d < distance) { best = i; distance = d; }
    }
    return best;
  }

  function picture(i) {
    if (data.picture[i]) {
      const image = document.createElement("img");
      image.src = "data:image/webp;base64," + data.picture[i];
      image.alt = data.labels[data.label[i]];
      return image;
    }
    const none = document.createElement("span");
    none.className = "none";
    none.textContent = "no picture";
    return none;
  }

  function text(kind, words) {
    const made = document.createElement(kind);
    made.textContent = words;
    return made;
  }

  function show(i, tell) {
    at = i;
    tip.hidden = i < 0;
    if (i >= 0) {
      tip.replaceChildren(picture(i), text("b", data.labels[data.label[i]]),
        text("span", data.path[i]));
      const [x, y] = pixel(i);
      const w = tip.offsetWidth, h = tip.offsetHeight;
      tip.style.left = Math.max(0, x + 14 + w > width ? x - 14 - w : x + 14) + "px";
      tip.style.top = Math.min(Math.max(0, y - h / 2), Math.max(0, height - h)) + "px";
      if (tell) said.textContent = data.labels[data.label[i]] + ", " + data.path[i];
    }
    draw();
  }

  function choose(rows) {
    const title = document.getElementById("chosen-title");
    const list = [...chosen];
    document.getElementById("chosen").hidden = list.length === 0;
    const by = new Map();
    for (const i of list) by.set(data.label[i], (by.get(data.label[i]) || 0) + 1);
    const told = [...by].sort((a, b) => b[1] - a[1]).slice(0, 8)
      .map(([label, n]) => data.labels[label] + " " + n.toLocaleString("en")).join(", ");
    document.getElementById("chosen-count").textContent =
      list.length.toLocaleString("en") + (list.length === 1 ? " image: " : " images: ") + told +
      (list.length > 48 ? "; the first 48 are shown" : "");
    const cards = list.slice(0, 48).map((i) => {
      const card = document.createElement("figure"), words = document.createElement("figcaption");
      card.className = "card";
      words.append(text("b", data.labels[data.label[i]]), text("span", data.path[i].split("/").pop()));
      card.title = full(i);
      card.append(picture(i), words);
      return card;
    });
    document.getElementById("chosen-pictures").replaceChildren(...cards);
    document.getElementById("chosen-paths").value = list.map(full).join("\n");
    said.textContent = list.length + (list.length === 1 ? " image" : " images") + " selected";
    if (rows > 1) title.focus({ preventScroll: true });
    draw();
  }

  function inside(x, y) {
    let odd = false;
    for (let a = 0, b = lasso.length - 1; a < lasso.length; b = a++) {
      const [ax, ay] = lasso[a], [bx, by] = lasso[b];
      if (ay > y !== by > y && x < ((bx - ax) * (y - ay)) / (by - ay) + ax) odd = !odd;
    }
    return odd;
  }

  // Mouse, pen and fingers -----------------------------------------------------------------------
  const pointers = new Map();
  let moved = 0, spread = 0;
  const place = (event) => [event.offsetX, event.offsetY];

  canvas.addEventListener("pointerdown", (event) => {
    canvas.setPointerCapture(event.pointerId);
    pointers.set(event.pointerId, place(event));
    moved = 0;
    if (pointers.size === 1 && (event.shiftKey || lassoButton.getAttribute("aria-pressed") === "true"))
      lasso = [place(event)];
    if (pointers.size === 2) { lasso = null; spread = 0; }
  });
  canvas.addEventListener("pointermove", (event) => {
    const [x, y] = place(event);
    const before = pointers.get(event.pointerId);
    if (!before) { show(nearest(x, y, 16), false); return; }
    pointers.set(event.pointerId, [x, y]);
    moved += Math.abs(x - before[0]) + Math.abs(y - before[1]);
    if (pointers.size === 2) {
      const [a, b] = [...pointers.values()];
      const now = Math.hypot(a[0] - b[0], a[1] - b[1]);
      left += (x - before[0]) / 2;
      top += (y - before[1]) / 2;
      if (spread) zoom(now / spread, (a[0] + b[0]) / 2, (a[1] + b[1]) / 2);
      spread = now;
    } else if (lasso) {
      lasso.push([x, y]);
      draw();
    } else {
      left += x - before[0];
      top += y - before[1];
      tip.hidden = true;
      draw();
    }
  });
  function release(event) {
    if (!pointers.delete(event.pointerId)) return;
    if (lasso) {
      const found = [];
      for (let i = 0; i < count; i++) if (visible(i) && inside(...pixel(i))) found.push(i);
      lasso = null;
      chosen.clear();
      found.forEach((i) => chosen.add(i));
      choose(found.length);
    } else if (moved < 4) {
      const i = nearest(...place(event), event.pointerType === "mouse" ? 16 : 28);
      show(i, true);
      if (i >= 0) { chosen.has(i) ? chosen.delete(i) : chosen.add(i); choose(1); }
    }
  }
  canvas.addEventListener("pointerup", release);
  canvas.addEventListener("pointercancel", (event) => { pointers.delete(event.pointerId); lasso = null; draw(); });
  canvas.addEventListener("pointerleave", (event) => {
    // A finger leaves when it is lifted: what it tapped stays.
    if (!focused && event.pointerType === "mouse") show(-1, false);
  });
  canvas.addEventListener("wheel", (event) => {
    // Without Ctrl, the wheel scrolls the page past the map. Pinching on a touchpad sets ctrlKey.
    if (!event.ctrlKey && !event.metaKey) return;
    event.preventDefault();
    zoom(Math.exp(-event.deltaY * 0.0015), ...place(event));
  }, { passive: false });

  // Keys -----------------------------------------------------------------------------------------
  const WAYS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

  function step(way) {
    if (at < 0) { show(nearest(width / 2, height / 2, 1e6), true); return; }
    const [x, y] = pixel(at);
    let best = -1, least = Infinity;
    for (let i = 0; i < count; i++) {
      if (i === at || !visible(i)) continue;
      const [px, py] = pixel(i);
      const along = (px - x) * way[0] + (py - y) * way[1];
      const across = Math.abs((px - x) * way[1]) + Math.abs((py - y) * way[0]);
      if (along <= 0 || across > along) continue;
      if (along + across < least) { least = along + across; best = i; }
    }
    if (best < 0) return;
    const [px, py] = pixel(best);
    if (px < 20 || px > width - 20) left += width / 2 - px;
    if (py < 20 || py > height - 20) top += height / 2 - py;
    show(best, true);
  }
  canvas.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.altKey || event.metaKey) return;
    if (WAYS[event.key]) step(WAYS[event.key]);
    else if (event.key === "+" || event.key === "=") { zoom(1.4); if (at >= 0) show(at, false); }
    else if (event.key === "-") { zoom(1 / 1.4); if (at >= 0) show(at, false); }
    else if (event.key === "0") reset();
    else if (event.key === "Escape") { chosen.clear(); choose(0); show(-1, false); }
    else if ((event.key === "Enter" || event.key === " ") && at >= 0) {
      chosen.has(at) ? chosen.delete(at) : chosen.add(at);
      choose(1);
    } else return;
    event.preventDefault();
  });
  canvas.addEventListener("focus", () => { focused = canvas.matches(":focus-visible"); });
  canvas.addEventListener("blur", () => { focused = false; show(-1, false); });

  // Tools and legend -----------------------------------------------------------------------------
  document.getElementById("zoom-in").addEventListener("click", () => zoom(1.4));
  document.getElementById("zoom-out").addEventListener("click", () => zoom(1 / 1.4));
  document.getElementById("reset").addEventListener("click", reset);
  lassoButton.addEventListener("click", () => {
    const on = lassoButton.getAttribute("aria-pressed") !== "true";
    lassoButton.setAttribute("aria-pressed", String(on));
    canvas.classList.toggle("lasso", on);
  });

  const members = data.labels.map(() => []);
  for (let i = 0; i < count; i++) members[data.label[i]].push(i);
  const dots = [];
  data.labels.forEach((label, number) => {
    const button = document.createElement("button"), dot = document.createElement("i");
    button.type = "button";
    button.setAttribute("aria-pressed", "true");
    button.append(dot, text("span", label), text("small", members[number].length.toLocaleString("en")));
    button.addEventListener("click", () => {
      shown[number] = !shown[number];
      button.setAttribute("aria-pressed", String(shown[number]));
      if (at >= 0 && !visible(at)) show(-1, false); else draw();
    });
    dots.push(dot);
    document.getElementById("legend").append(button);
  });
  const paint = () => { dots.forEach((dot, label) => { dot.style.background = colour(label); }); draw(); };

  function resize() {
    const ratio = window.devicePixelRatio || 1;
    const fresh = width === 0;
    width = canvas.clientWidth;
    height = canvas.clientHeight;
    canvas.width = Math.round(width * ratio);
    canvas.height = Math.round(height * ratio);
    pen.setTransform(ratio, 0, 0, ratio, 0, 0);
    if (fresh) reset(); else draw();
  }
  new ResizeObserver(resize).observe(canvas);
  dark.addEventListener("change", paint);
  resize();
  paint();
})();
