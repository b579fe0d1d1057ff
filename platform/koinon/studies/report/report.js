"use strict";
(() => {
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];
  const data = JSON.parse(document.getElementById("data").textContent);

  // light, dark, or as the system says
  const theme = document.getElementById("theme");
  theme.hidden = false;
  theme.addEventListener("click", () => {
    const dark = document.documentElement.dataset.theme
      ? document.documentElement.dataset.theme === "dark"
      : matchMedia("(prefers-color-scheme: dark)").matches;
    document.documentElement.dataset.theme = dark ? "light" : "dark";
  });

  addEventListener("beforeprint", () => all("details").forEach((d) => { d.open = true; }));

  // sorting: every table with a button in its head
  all("th button[data-sort]").forEach((button) => button.addEventListener("click", () => {
    const head = button.closest("th"), table = head.closest("table"), body = table.tBodies[0];
    const column = [...head.parentNode.children].indexOf(head);
    const descending = head.getAttribute("aria-sort") !== "descending";
    all("th", table.tHead).forEach((th) => th.removeAttribute("aria-sort"));
    head.setAttribute("aria-sort", descending ? "descending" : "ascending");
    const key = (row) => { const v = row.children[column].dataset.v ?? row.children[column].textContent.trim(); return v !== "" && isFinite(v) ? +v : v; };
    const sign = descending ? -1 : 1;
    [...body.rows].sort((a, b) => { const x = key(a), y = key(b); return sign * (typeof x === "number" && typeof y === "number" ? x - y : String(x).localeCompare(String(y))); })
      .forEach((row) => body.append(row));
  }));

  // the main table for another slice or metric
  const slice = document.getElementById("slice"), metric = document.getElementById("metric"), main = document.getElementById("main");
  const fill = () => {
    const cells = data.cells[slice.value][metric.value], gains = data.gains[slice.value];
    for (const row of main.tBodies[0].rows) {
      const name = row.dataset.partner;
      let best = null;
      for (const cell of all("td[data-arm]", row)) {
        const c = cells[name][cell.dataset.arm];
        cell.querySelector(".mean").textContent = c.mean;
        cell.querySelector(".span").textContent = c.span;
        cell.dataset.v = c.sort;
        cell.classList.remove("best");
        if (cell.dataset.arm !== "pooled" && c.sort > 0 && (!best || c.sort > +best.dataset.v)) best = cell;
      }
      if (best) best.classList.add("best");
      for (const cell of all("td[data-gain]", row)) {
        const g = gains[name][cell.dataset.gain];
        cell.dataset.v = g.sort;
        cell.title = g.title;
        cell.innerHTML = '<div class="pair"><span class="num ' + g.tone + '">' + g.text + "</span>" + g.svg + "</div>";
      }
      row.querySelector(".people").textContent = data.people[slice.value][name].toLocaleString("en");
    }
  };
  slice.addEventListener("change", fill);
  metric.addEventListener("change", fill);

  // the map: colour by partner or language, light up one of them, name the point under the pointer
  const box = document.getElementById("mapbox");
  if (!box) return;
  const svg = box.querySelector("svg"), paths = all("path", svg), ring = svg.querySelector(".ring"), tip = box.querySelector(".tip-box");
  const chips = document.getElementById("chips");
  const paint = (by) => {
    all(".segment button").forEach((b) => b.setAttribute("aria-pressed", b.dataset.by === by));
    paths.forEach((p) => p.style.setProperty("--tint", "var(--c" + data.colours[by][+p.dataset[by]] + ")"));
    box.classList.remove("dim");
    chips.replaceChildren(...data.names[by].map((name, index) => {
      const chip = document.createElement("button");
      chip.type = "button";
      chip.setAttribute("aria-pressed", "false");
      chip.innerHTML = '<i class="key" style="color:var(--c' + data.colours[by][index] + ')"></i>';
      chip.append(name);
      chip.addEventListener("click", () => {
        const on = chip.getAttribute("aria-pressed") !== "true";
        all("button", chips).forEach((c) => c.setAttribute("aria-pressed", "false"));
        chip.setAttribute("aria-pressed", on);
        box.classList.toggle("dim", on);
        paths.forEach((p) => p.classList.toggle("on", on && +p.dataset[by] === index));
      });
      return chip;
    }));
  };
  all(".segment button").forEach((b) => b.addEventListener("click", () => paint(b.dataset.by)));
  paint("partner");
  const near = (event) => {
    const frame = svg.getBoundingClientRect(), scale = 1000 / frame.width;
    const x = (event.clientX - frame.left) * scale, y = (event.clientY - frame.top) * scale;
    let best = null, least = 30 * 30;
    for (const point of data.points) {
      const d = (point[0] - x) ** 2 + (point[1] - y) ** 2;
      if (d < least) { least = d; best = point; }
    }
    ring.style.visibility = tip.style.visibility = best ? "visible" : "hidden";
    if (!best) return;
    ring.setAttribute("cx", best[0]); ring.setAttribute("cy", best[1]);
    tip.textContent = best[4];
    const small = document.createElement("small");
    small.textContent = data.names.partner[best[2]] + " · " + data.names.language[best[3]];
    tip.append(small);
    const left = best[0] / scale, top = best[1] / scale;
    tip.style.left = Math.min(left + 12, frame.width - tip.offsetWidth - 6) + "px";
    tip.style.top = (top + tip.offsetHeight + 20 > frame.height ? top - tip.offsetHeight - 10 : top + 12) + "px";
  };
  svg.addEventListener("pointermove", near);
  svg.addEventListener("pointerdown", near);
  svg.addEventListener("pointerleave", () => { ring.style.visibility = tip.style.visibility = "hidden"; });
})();
