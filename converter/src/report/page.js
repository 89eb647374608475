// Shows another rung. Without this script the page shows the best integer one.
(() => {
  "use strict";
  const data = JSON.parse(document.getElementById("data").textContent);
  const select = document.getElementById("rung");
  const rows = document.querySelectorAll("#bars > li");
  const timeline = document.getElementById("timeline");

  const bar = (element, text, percent) => {
    element.querySelector(".fill").style.width = `${percent}%`;
    element.querySelector(".value").textContent = text;
  };

  const showLayers = (layers) => {
    rows.forEach((row, i) => {
      const layer = layers[i];
      row.hidden = !layer;
      if (!layer) return;
      const [bytes, share, format, cost, noise] = layer;
      row.querySelector(".format").textContent = data.formats[format];
      bar(row.querySelector(".bytes"), bytes, share);
      bar(row.querySelector(".cost"), cost, noise);
    });
  };

  const showTimeline = (index) => {
    if (!timeline) return;
    timeline.hidden = index === null;
    if (index === null) return;
    const line = data.timelines[index];
    timeline.querySelector(".area").setAttribute("d", line.path);
    timeline.querySelector(".rules").replaceChildren(...line.ticks.map(([top, text]) => {
      const tick = document.createElement("span");
      tick.style.top = `${top}%`;
      tick.dataset.text = text;
      return tick;
    }));
    const arena = timeline.querySelector(".arena");
    arena.style.top = `${line.arena_top}%`;
    arena.dataset.text = `arena ${line.arena}`;
    const peak = timeline.querySelector(".peak");
    peak.style.left = `${line.peak_at}%`;
    peak.style.top = `${line.peak_top}%`;
    timeline.querySelectorAll("[data-t]").forEach((e) => { e.textContent = line[e.dataset.t]; });
  };

  const mark = (name, attribute, index) => {
    document.querySelectorAll(`[${attribute}]`).forEach((e) => {
      e.classList.toggle(name, e.getAttribute(attribute) === String(index));
    });
  };

  const show = (index) => {
    const detail = data.details[index];
    select.value = index;
    document.getElementById("summary").textContent = detail.summary;
    showLayers(detail.layers);
    showTimeline(detail.timeline);
    mark("chosen", "data-row", index);
    mark("chosen", "data-dot", index);
  };

  select.hidden = false;
  select.addEventListener("change", () => show(Number(select.value)));
  document.querySelectorAll("[data-show]").forEach((e) => {
    e.addEventListener("click", () => show(Number(e.dataset.show)));
    e.addEventListener("keydown", (key) => {
      if (key.key === "Enter") show(Number(e.dataset.show));
    });
  });
  // One stop for each chart: arrows go from point to point.
  document.querySelectorAll(".plot").forEach((plot) => {
    const marks = [...plot.querySelectorAll(".mark")];
    const stop = (at) => marks.forEach((mark, i) => mark.setAttribute("tabindex", i === at ? "0" : "-1"));
    stop(0);
    marks.forEach((mark, i) => mark.addEventListener("keydown", (key) => {
      const next = i + ({ ArrowRight: 1, ArrowLeft: -1 }[key.key] ?? 0);
      if (next === i || !marks[next]) return;
      key.preventDefault();
      stop(next);
      marks[next].focus();
    }));
  });
  // A browser may keep what was selected before a reload.
  show(Number(select.value));
})();
