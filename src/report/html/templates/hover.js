"use strict";
// Values under the pointer or at the arrow keys. All texts come ready from the page; nothing here computes a figure.
(() => {
  const tip = document.getElementById("tip");
  const parsed = new WeakMap();
  let shown = null;
  let shownAt = 0;

  function dataOf(view) {
    if (!parsed.has(view)) {
      const script = view.querySelector("script");
      parsed.set(view, script ? JSON.parse(script.textContent) : null);
    }
    return parsed.get(view);
  }

  function frameOf(view) {
    const svg = [...view.querySelectorAll("svg")].find((one) => one.getClientRects().length > 0);
    if (!svg) return null;
    const box = svg.getBoundingClientRect();
    const scale = box.width / svg.viewBox.baseVal.width;
    const [left, top, width, height] = svg.dataset.plot.split(" ").map((part) => Number(part) * scale);
    return { left: box.left + left, top: box.top + top, width, height };
  }

  function nearest(values, wanted) {
    let best = -1;
    values.forEach((value, place) => {
      if (best < 0 || Math.abs(value - wanted) < Math.abs(values[best] - wanted)) best = place;
    });
    return best;
  }

  // The points to tell of, for a place from 0 to 1 in the frame.
  function pick(data, x, y, frame) {
    if (data.mode === "nearest") {
      let best = null;
      for (const series of data.series) {
        series.x.forEach((at, place) => {
          const far = Math.hypot((at - x) * frame.width, (series.y[place] - y) * frame.height);
          if (!best || far < best.far) best = { far, series, place };
        });
      }
      return best ? [best] : [];
    }
    const columns = data.series.map((series) => ({ series, place: nearest(series.x, x) })).filter((one) => one.place >= 0);
    const closest = Math.min(...columns.map((one) => Math.abs(one.series.x[one.place] - x)));
    return columns.filter((one) => Math.abs(one.series.x[one.place] - x) <= closest + 0.02);
  }

  function clear() {
    document.querySelectorAll(".cross,.dot").forEach((one) => one.remove());
    tip.hidden = true;
    shown = null;
  }

  function line(color, text) {
    const row = document.createElement("span");
    if (color !== null) {
      const key = document.createElement("i");
      key.className = "key c" + color;
      row.append(key);
    }
    row.append(text);
    return row;
  }

  function placeTip(x, y) {
    tip.hidden = false;
    shownAt = scrollY;
    const box = tip.getBoundingClientRect();
    const left = x + 14 + box.width > innerWidth ? x - 14 - box.width : x + 14;
    tip.style.left = Math.max(4, Math.min(left, innerWidth - box.width - 4)) + "px";
    tip.style.top = Math.max(4, Math.min(y + 14, innerHeight - box.height - 4)) + "px";
  }

  function show(view, x, y, pointer) {
    const data = dataOf(view);
    const frame = data && frameOf(view);
    if (!frame) return;
    const picked = pick(data, x, y, frame);
    clear();
    if (!picked.length) return;
    const home = view.getBoundingClientRect();
    const first = picked[0];
    const at = first.series.x[first.place];
    if (data.mode === "column") {
      const cross = document.createElement("div");
      cross.className = "cross";
      cross.style.left = frame.left - home.left + at * frame.width + "px";
      cross.style.top = frame.top - home.top + "px";
      cross.style.height = frame.height + "px";
      view.append(cross);
    }
    const head = document.createElement("b");
    head.textContent = data.mode === "column" ? data.x + ": " + first.series.h[first.place] : first.series.n;
    tip.replaceChildren(head);
    for (const { series, place } of picked) {
      const dot = document.createElement("div");
      dot.className = "dot c" + series.c;
      dot.style.left = frame.left - home.left + series.x[place] * frame.width + "px";
      dot.style.top = frame.top - home.top + series.y[place] * frame.height + "px";
      view.append(dot);
      tip.append(data.mode === "column" ? line(series.c, series.n + ": " + series.v[place]) : line(null, series.v[place]));
    }
    const near = pointer || { x: frame.left + at * frame.width, y: frame.top + first.series.y[first.place] * frame.height };
    placeTip(near.x, near.y);
    shown = { view, x: at, y: first.series.y[first.place], picked: first };
  }

  function showTip(element, pointer) {
    clear();
    tip.replaceChildren(line(null, element.dataset.tip));
    placeTip(pointer.x, pointer.y);
  }

  let last = null;
  function point(event) {
    const element = event.target instanceof Element ? event.target : null;
    const view = element && element.closest(".view");
    const pointer = { x: event.clientX, y: event.clientY };
    last = view ? { view, pointer } : null;
    if (!view) {
      if (shown || !tip.hidden) clear();
      return;
    }
    if (element.dataset.tip) return showTip(element, pointer);
    const frame = dataOf(view) && frameOf(view);
    if (!frame) return clear();
    show(view, (pointer.x - frame.left) / frame.width, (pointer.y - frame.top) / frame.height, pointer);
  }
  document.addEventListener("pointermove", point);
  document.addEventListener("pointerdown", point);
  document.addEventListener("pointerleave", clear);
  document.addEventListener("scroll", () => { if (!tip.hidden && Math.abs(scrollY - shownAt) > 4) clear(); }, { passive: true });

  document.addEventListener("keydown", (event) => {
    const view = document.activeElement && document.activeElement.closest(".view");
    if (event.key === "Escape") return clear();
    if (!view || !["ArrowLeft", "ArrowRight"].includes(event.key)) return;
    const step = event.key === "ArrowRight" ? 1 : -1;
    const tips = [...view.querySelectorAll("[data-tip]")].filter((one) => one.getClientRects().length > 0);
    event.preventDefault();
    if (tips.length) {
      const next = (Number(view.dataset.at ?? -1) + step + tips.length) % tips.length;
      view.dataset.at = next;
      const box = tips[next].getBoundingClientRect();
      return showTip(tips[next], { x: box.left + box.width / 2, y: box.bottom });
    }
    const data = dataOf(view);
    if (!data) return;
    const all = data.series.flatMap((series) => series.x.map((x, place) => ({ x, y: series.y[place] })));
    const places = data.mode === "column" ? [...new Set(all.map((one) => one.x))].sort((a, b) => a - b).map((x) => ({ x, y: 0 }))
      : all.sort((a, b) => a.x - b.x || a.y - b.y);
    const next = (Number(view.dataset.at ?? (step > 0 ? -1 : 0)) + step + places.length) % places.length;
    view.dataset.at = next;
    if (places[next]) show(view, places[next].x, places[next].y, null);
  });
  document.addEventListener("focusout", clear);

  // After the live view has put new charts in place of the old ones.
  window.freshbenchRedrawn = () => {
    document.querySelectorAll(".cross,.dot").forEach((one) => one.remove());
    if (!last) return;
    const under = document.elementFromPoint(last.pointer.x, last.pointer.y);
    if (under) point({ target: under, clientX: last.pointer.x, clientY: last.pointer.y });
  };
})();
