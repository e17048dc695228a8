"use strict";
// in a report that is served: says when its runs have grown, and shows them again where the reader was
(() => {
  const ids = Object.keys(SEEN);
  const KEY = `spa-bench-place ${location.search}`;
  const took = performance.now();
  // a large report takes its time to make: it is not made again and again
  const EVERY = Math.max(3000, Math.min(60000, 5 * took));
  const bar = document.createElement("p");
  const said = document.createElement("span");
  const again = document.createElement("button");
  const follow = document.createElement("input");
  let timer = 0;

  function build() {
    const home = document.createElement("a"), label = document.createElement("label");
    bar.id = "follow";
    bar.className = "controls";
    home.href = "/";
    home.textContent = "All runs";
    said.setAttribute("role", "status");
    again.type = "button";
    again.textContent = "Show what is new";
    again.hidden = true;
    again.addEventListener("click", reload);
    follow.type = "checkbox";
    follow.id = "following";
    follow.checked = stored("spa-bench-follow") !== "no";
    follow.addEventListener("change", () => { keep("spa-bench-follow", follow.checked ? "yes" : "no"); look(); });
    label.append(follow, " follow");
    bar.append(home, label, said, again);
    document.querySelector("header").append(bar);
  }
  function stored(key) { try { return sessionStorage.getItem(key); } catch { return null; } }
  function keep(key, value) { try { sessionStorage.setItem(key, value); } catch { /* then not */ } }

  // where the reader is -------------------------------------------------------------------------------------------

  const fields = () => [...document.querySelectorAll("main input, main select")].filter((f) => f.type !== "radio" || f.checked);
  const name = (field, place) => field.id || `${field.name} ${field.value} ${place}`;
  function reload() {
    const values = fields().map((f, i) => [name(f, i), f.type === "checkbox" ? f.checked : f.value]);
    const open = [...document.querySelectorAll("main details")].map((d) => d.open);
    const sorted = [...document.querySelectorAll("th[aria-sort]")].map((cell) => [cell.closest("table")?.id ?? "", cell.textContent, cell.getAttribute("aria-sort")]);
    keep(KEY, JSON.stringify({ y: scrollY, x: scrollX, hash: location.hash, values, open, sorted, at: Date.now() }));
    location.reload();
  }
  // answers are unpacked after the page has loaded, and its fields act on them: wait for these first
  function restore(tries = 50) {
    let place;
    try { place = JSON.parse(stored(KEY)); } catch { return; }
    if (!place || Date.now() - place.at > 120000 || place.hash !== location.hash) return;
    if (tries && document.getElementById("browser") && !document.querySelector("#cards > *")) {
      setTimeout(() => restore(tries - 1), 100);
      return;
    }
    keep(KEY, "null"); // once
    const before = new Map(place.values);
    fields().forEach((field, i) => {
      const value = before.get(name(field, i));
      if (value === undefined) return;
      const now = field.type === "checkbox" ? field.checked : field.value;
      if (now === value) return;
      if (field.type === "checkbox") field.checked = value;
      else field.value = value;
      if (field.type !== "checkbox" && field.value !== value) { field.value = now; return; } // that choice is gone
      field.dispatchEvent(new Event("input", { bubbles: true }));
      field.dispatchEvent(new Event("change", { bubbles: true }));
    });
    const all = [...document.querySelectorAll("main details")];
    if (all.length === place.open.length) all.forEach((d, i) => { d.open = place.open[i]; });
    for (const [table, title, way] of place.sorted) {
      const cell = [...document.querySelectorAll("th")].find((c) => (c.closest("table")?.id ?? "") === table && c.textContent === title);
      for (let tries = 0; cell && tries < 2 && cell.getAttribute("aria-sort") !== way; tries++) cell.querySelector("button")?.click();
    }
    // charts are drawn after this: the page has its height a little later
    let mine = true; // until the reader moves
    for (const act of ["wheel", "keydown", "pointerdown", "touchstart"]) addEventListener(act, () => { mine = false; }, { once: true, passive: true });
    const back = () => { if (mine) scrollTo(place.x, place.y); };
    for (const wait of [0, 150, 500, 1200, 2000]) setTimeout(back, wait);
  }

  // what the runs have become -------------------------------------------------------------------------------------

  const reading = () => {
    const at = document.activeElement;
    return (at && /^(INPUT|SELECT|TEXTAREA)$/.test(at.tagName) && at.type !== "checkbox") || !getSelection().isCollapsed;
  };
  async function look() {
    clearTimeout(timer);
    let working = false;
    try {
      const answer = await fetch(`/api/runs?${ids.map((id) => `run=${id}`).join("&")}`);
      if (!answer.ok) throw new Error(`it answered ${answer.status}`);
      const { runs } = await answer.json();
      const at = runs.filter((run) => run.state === "generating" || run.state === "grading");
      const grown = runs.some((run) => SEEN[run.id] !== run.stamp);
      working = at.length > 0;
      const [one] = at;
      const how = at.length === 1 ? `${one.sampler}, seed ${one.seed}: ${one.stage}, ${one.done} of ${one.total} problems` : `${at.length} runs at work`;
      const gone = ids.length - runs.length;
      // before anything that would move the page
      if (grown && follow.checked && !document.hidden && !reading()) { reload(); return; }
      said.textContent = (working ? how : "no run is at work") + (gone ? `; ${gone} of the runs are not there any more` : "");
      again.hidden = !grown;
    } catch (error) {
      said.textContent = `the server does not answer (${error.message}); the page stays as it is`;
    }
    clearTimeout(timer);
    timer = setTimeout(look, working ? EVERY : Math.max(EVERY, 10000));
  }

  build();
  restore();
  document.addEventListener("visibilitychange", () => { if (!document.hidden) look(); });
  timer = setTimeout(look, Math.min(EVERY, 3000));
})();
