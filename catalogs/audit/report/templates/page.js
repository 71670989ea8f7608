// The sky map: hover, tap or arrow keys for a tile's numbers; zoom and pan; colours and sizes.
"use strict";
(() => {
  const map = document.getElementById("map");
  if (!map) return;
  const svg = map.querySelector("svg");
  const tables = JSON.parse(document.getElementById("map-data").textContent);
  const groups = [...svg.querySelectorAll("g.tiles")];
  const cursor = document.getElementById("cursor");
  const readout = document.getElementById("readout");
  const said = document.getElementById("said");
  const legend = document.getElementById("legend");
  const base = svg.viewBox.baseVal;
  const whole = { x: base.x, y: base.y, w: base.width, h: base.height };
  const kinds = { excess: "d", z: "d", n: "s" };
  let view = { ...whole };
  let now = 0; // which table
  let quantity = "excess";
  let chosen = mostDeviant();

  const owner = (t, i) => (tables[t].path ? tables[t].path[i] : i);
  const signed = (v, digits) => (v < 0 ? "−" : "+") + Math.abs(v).toFixed(digits);

  function mostDeviant() {
    const z = tables[now].z;
    return z.reduce((best, v, i) => (v !== null && Math.abs(v) > Math.abs(z[best] || 0) ? i : best), 0);
  }

  function words(i) {
    const t = tables[now];
    const tested = t.z[i] !== null;
    return {
      tile: `${t.tile[i]} (nside ${t.nside})`,
      position: `${t.ra[i].toFixed(2)}°, ${signed(t.dec[i], 2)}°`,
      n: t.n[i].toLocaleString("en"),
      fraction: `${t.fraction[i].toFixed(4)} (${t.low[i].toFixed(4)} to ${t.high[i].toFixed(4)})`,
      excess: t.excess[i] === null ? "–" : signed(t.excess[i], 4),
      z: tested ? signed(t.z[i], 2) : "–",
      q: tested ? t.q[i].toPrecision(2) : "–",
      state: t.flagged.includes(i) ? "flagged" : tested ? "not flagged" : "too few answers to test",
    };
  }

  function show(i) {
    const text = words(i);
    for (const field of readout.querySelectorAll("[data-field]")) {
      field.textContent = text[field.dataset.field];
    }
    const outline = [...groups[now].children].filter((_, p) => owner(now, p) === i);
    cursor.setAttribute("d", outline.map((path) => path.getAttribute("d")).join(""));
  }

  function choose(i, aloud) {
    chosen = i;
    show(i);
    if (!aloud) return;
    const w = words(i);
    said.textContent = `Tile ${w.tile}, position ${w.position}, ${w.n} answers, ` +
      `fraction ${w.fraction}, excess ${w.excess}, z ${w.z}, ${w.state}`;
    const t = tables[now];
    if (view.w < whole.w) moveTo(t.x[i] - view.w / 2, t.y[i] - view.h / 2);
  }

  function tileAt(event) {
    const at = document.elementFromPoint(event.clientX, event.clientY);
    if (!at || at.parentNode !== groups[now]) return null;
    return owner(now, [...groups[now].children].indexOf(at));
  }

  // ------------------------------------------------------------------ zoom and pan
  function apply() {
    svg.setAttribute("viewBox", `${view.x} ${view.y} ${view.w} ${view.h}`);
    map.classList.toggle("zoomed", view.w < whole.w - 1);
  }
  function moveTo(x, y) {
    view.x = Math.min(Math.max(x, whole.x), whole.x + whole.w - view.w);
    view.y = Math.min(Math.max(y, whole.y), whole.y + whole.h - view.h);
    apply();
  }
  function place(clientX, clientY) {
    const box = svg.getBoundingClientRect();
    return { x: (clientX - box.left) / box.width, y: (clientY - box.top) / box.height };
  }
  function zoom(factor, at) {
    const scale = Math.min(Math.max((view.w / whole.w) / factor, 1 / 16), 1);
    const fixed = { x: view.x + at.x * view.w, y: view.y + at.y * view.h };
    view.w = whole.w * scale;
    view.h = whole.h * scale;
    moveTo(fixed.x - at.x * view.w, fixed.y - at.y * view.h);
  }
  function zoomOnChosen(factor) {
    const t = tables[now];
    const inside = { x: (t.x[chosen] - view.x) / view.w, y: (t.y[chosen] - view.y) / view.h };
    const seen = [inside.x, inside.y].every((v) => v >= 0 && v <= 1);
    zoom(factor, seen ? inside : { x: 0.5, y: 0.5 });
  }

  const pointers = new Map();
  let moved = false;
  svg.addEventListener("pointerdown", (event) => {
    pointers.set(event.pointerId, { x: event.clientX, y: event.clientY });
    moved = pointers.size > 1;
  });
  svg.addEventListener("pointermove", (event) => {
    const last = pointers.get(event.pointerId);
    if (!last) {
      const i = tileAt(event);
      show(i === null ? chosen : i);
      return;
    }
    const others = [...pointers.entries()].filter(([id]) => id !== event.pointerId);
    const box = svg.getBoundingClientRect();
    const step = { x: event.clientX - last.x, y: event.clientY - last.y };
    if (!moved && Math.hypot(step.x, step.y) < 4) return;
    moved = true;
    svg.setPointerCapture(event.pointerId);
    pointers.set(event.pointerId, { x: event.clientX, y: event.clientY });
    if (others.length) {
      const other = others[0][1];
      const apart = (p) => Math.max(Math.hypot(p.x - other.x, p.y - other.y), 1);
      zoom(apart({ x: event.clientX, y: event.clientY }) / apart(last),
        place((event.clientX + other.x) / 2, (event.clientY + other.y) / 2));
    } else if (view.w < whole.w) {
      moveTo(view.x - (step.x / box.width) * view.w, view.y - (step.y / box.height) * view.h);
    }
  });
  for (const name of ["pointerup", "pointercancel"]) {
    svg.addEventListener(name, (event) => {
      const tapped = name === "pointerup" && pointers.delete(event.pointerId) && !moved;
      pointers.delete(event.pointerId);
      const i = tapped ? tileAt(event) : null;
      if (i !== null) choose(i, false);
    });
  }
  svg.addEventListener("pointerleave", () => show(chosen));
  svg.addEventListener("dblclick", (event) => zoom(2, place(event.clientX, event.clientY)));
  svg.addEventListener("wheel", (event) => {
    if (!event.ctrlKey && !event.metaKey) return; // the page scrolls
    event.preventDefault();
    zoom(Math.exp(-event.deltaY / 300), place(event.clientX, event.clientY));
  }, { passive: false });

  // ------------------------------------------------------------------ keyboard
  const ways = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
  function neighbour([dx, dy]) {
    const t = tables[now];
    let best = chosen;
    let least = Infinity;
    for (let i = 0; i < t.x.length; i++) {
      const along = (t.x[i] - t.x[chosen]) * dx + (t.y[i] - t.y[chosen]) * dy;
      const aside = Math.abs((t.x[i] - t.x[chosen]) * dy) + Math.abs((t.y[i] - t.y[chosen]) * dx);
      if (along > 1 && along + 2 * aside < least) {
        least = along + 2 * aside;
        best = i;
      }
    }
    return best;
  }
  map.addEventListener("keydown", (event) => {
    if (event.target !== map || event.ctrlKey || event.metaKey || event.altKey) return;
    if (ways[event.key]) choose(neighbour(ways[event.key]), true);
    else if (event.key === "Home") choose(mostDeviant(), true);
    else if (event.key === "+" || event.key === "=") zoomOnChosen(1.6);
    else if (event.key === "-") zoomOnChosen(1 / 1.6);
    else if (event.key === "0") zoom(1e-3, { x: 0.5, y: 0.5 });
    else return;
    event.preventDefault();
  });
  map.addEventListener("focus", () => choose(chosen, true));

  // ------------------------------------------------------------------ what is shown
  function colour() {
    const t = tables[now];
    const kind = kinds[quantity];
    [...groups[now].children].forEach((path, p) => {
      const code = t.codes[quantity][owner(now, p)];
      path.setAttribute("class", code === "u" ? "u" : kind + code);
    });
    legend.replaceChildren(...t.legends[quantity].map(([name, edge]) => {
      const item = document.createElement("li");
      const swatch = document.createElement("span");
      swatch.className = `swatch ${name}`;
      const text = document.createElement("span");
      text.textContent = edge;
      item.append(swatch, text);
      return item;
    }));
    for (const name of document.querySelectorAll("[data-quantity]")) {
      name.hidden = name.dataset.quantity !== quantity;
    }
  }
  for (const input of document.querySelectorAll("#controls input")) {
    input.addEventListener("change", () => {
      if (input.name === "quantity") quantity = input.value;
      else {
        now = Number(input.value);
        groups.forEach((group, i) => {
          if (i === now) group.removeAttribute("display");
          else group.setAttribute("display", "none");
        });
        chosen = mostDeviant();
      }
      colour();
      choose(chosen, false);
    });
  }
  for (const button of document.querySelectorAll("#controls button")) {
    button.addEventListener("click", () => {
      if (button.value === "0") zoom(1e-3, { x: 0.5, y: 0.5 });
      else zoomOnChosen(button.value === "in" ? 1.6 : 1 / 1.6);
    });
  }
  document.getElementById("controls").hidden = false;
  map.tabIndex = 0;
  map.setAttribute("role", "application");
  show(chosen);
})();
