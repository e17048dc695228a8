"use strict";
// the list of runs: asks for its rows again and again and changes what has changed; every text goes in as text
(() => {
  const $ = (id) => document.getElementById(id);
  const MARKS = { generating: "●", grading: "◐", finished: "✓", stopped: "■", damaged: "!", newer: "?" };
  const BUSY = new Set(["generating", "grading"]);
  const QUICK = 2000, SLOW = 5000, LOST = 10000; // milliseconds to the next look
  const HEADS = {
    "pass@1": "pass@1", "pass@K": "pass@K", diversity_score: "diversity score", effective_diversity: "effective diversity",
    vendi: "Vendi", average_kl: "average KL",
  };
  const known = new Map(); // id -> { row, line, cells, chosen, first: { stage, share, at } }
  let order = { key: "written", down: true }, columns = [], timer = 0, heads = "";

  function element(tag, text, name) {
    const made = document.createElement(tag);
    if (text !== undefined) made.textContent = text;
    if (name) made.className = name;
    return made;
  }
  const address = (ids) => `/report?${ids.map((id) => `run=${encodeURIComponent(id)}`).join("&")}`;
  const busy = (row) => BUSY.has(row.state);

  // cells ---------------------------------------------------------------------------------------------------------

  function ago(seconds) {
    if (seconds < 60) return `${Math.max(0, Math.round(seconds))} s ago`;
    if (seconds < 3600) return `${Math.round(seconds / 60)} min ago`;
    if (seconds < 86400) return `${Math.round(seconds / 3600)} h ago`;
    return `${Math.round(seconds / 86400)} d ago`;
  }
  function lasts(seconds) {
    return seconds < 90 ? `${Math.round(seconds)} s` : seconds < 5400 ? `${Math.round(seconds / 60)} min` : `${(seconds / 3600).toFixed(1)} h`;
  }
  // of its stage; members answer one after the other, so that answers come long before the first problem has all of its own
  const share = (row) => row.stage === "generation" && row.samples_total ? row.samples / row.samples_total : row.done / Math.max(1, row.total);
  // by what was done since this page saw the stage first: nothing before ten seconds of that
  function left(row, first) {
    const took = Date.now() / 1000 - first.at, done = share(row) - first.share;
    return busy(row) && took > 10 && done > 0 && share(row) < 1 ? `, about ${lasts(took / done * (1 - share(row)))} left` : "";
  }
  const digits = (name, value) => value.toFixed(name === "average_kl" ? 3 : 2);

  function fill(entry) {
    const { row, cells, first } = entry;
    const link = element("a", row.name);
    link.href = address([row.id]);
    const openable = row.state !== "newer" && row.sampler !== undefined;
    const name = [openable ? link : element("span", row.name)];
    if (row.said) name.push(element("small", row.said));
    put(cells.name, "run", name, row.name + row.said + openable);
    for (const key of ["task", "sampler", "model", "seed", "n"]) put(cells[key], "", [element("span", text(row[key]))], text(row[key]));
    const stage = row.stage && row.state !== "finished" ? `${row.state === "stopped" ? "in " : ""}${row.stage}` : "";
    const where = row.host ? `on ${row.host}; from here nobody can tell whether it runs` : "";
    const state = [element("span", MARKS[row.state] ?? "?", "mark"), element("span", ` ${row.state}`)];
    for (const line of [stage, where]) if (line) state.push(element("span", line, "how"));
    put(cells.state, `state-${row.state}`, state, row.state + stage + where);
    const how = row.total ? `${row.done} of ${row.total} problems${left(row, first)}` : "";
    const bar = element("progress");
    bar.value = share(row);
    bar.setAttribute("aria-label", `${row.stage || row.state}: ${how}`);
    const of = row.samples_total && row.state !== "finished" ? ` of ${row.samples_total}` : "";
    const samples = `${row.samples}${of} answers`;
    const whole = row.state === "finished" ? [element("span", samples)] : [bar, element("span", how, "how"), element("span", samples, "how")];
    put(cells.progress, "", row.total ? whole : [], how + samples + row.stage + row.state);
    const since = row.written ? ago(Date.now() / 1000 - row.written) : "";
    put(cells.written, "", [element("span", since)], since);
    for (const metric of columns) {
      const found = row.metrics[metric];
      const there = found && found.value !== null;
      const parts = [element("span", there ? digits(metric, found.value) : "–", there ? "" : "none")];
      if (there && found.low !== null) parts.push(element("small", `[${digits(metric, found.low)}, ${digits(metric, found.high)}]`));
      if (found && !there) parts[0].title = found.reason;
      put(cells[metric], "number", parts, JSON.stringify(found ?? null));
    }
    entry.line.classList.toggle("chosen", entry.chosen.checked);
  }
  const text = (value) => (value === null || value === undefined ? "–" : String(value));
  function put(cell, name, parts, mark) {
    if (cell.dataset.mark === mark) return; // as it was: a focused link stays focused
    const inside = cell.contains(document.activeElement);
    cell.dataset.mark = mark;
    cell.className = name;
    cell.replaceChildren(...parts);
    if (inside) cell.querySelector("a")?.focus();
  }

  // the table -----------------------------------------------------------------------------------------------------

  const plain = () => [["name", "run"], ["state", "state"], ["progress", "progress"], ["sampler", "sampler"], ["task", "task"], ["seed", "seed"],
    ["n", "n"], ...columns.map((c) => [c, HEADS[c] ?? c]), ["written", "last written"], ["model", "model"]];

  function head() {
    const cells = [element("td")];
    cells[0].append(element("span", "chosen", "away"));
    for (const [key, title] of plain()) {
      const cell = element("th"), button = element("button", title);
      cell.scope = "col";
      cell.dataset.key = key;
      button.type = "button";
      button.addEventListener("click", () => {
        order = { key, down: order.key === key ? !order.down : columns.includes(key) || key === "written" || key === "progress" };
        draw();
      });
      cell.append(button);
      cells.push(cell);
    }
    $("head").replaceChildren(...cells);
    for (const [id, entry] of known) {
      entry.line.remove();
      known.set(id, { ...entry, ...line(entry.row) });
    }
  }

  function line(row) {
    const made = element("tr"), cells = {}, box = element("td", undefined, "choose"), chosen = element("input");
    chosen.type = "checkbox";
    chosen.checked = known.get(row.id)?.chosen.checked ?? false;
    chosen.setAttribute("aria-label", `choose ${row.name}`);
    chosen.addEventListener("change", choose);
    box.append(chosen);
    made.append(box);
    for (const [key] of plain()) made.append(cells[key] = element("td"));
    return { line: made, cells, chosen };
  }

  function value(row, key) {
    if (key === "progress") return row.state === "finished" ? 2 : share(row);
    if (columns.includes(key)) return row.metrics[key]?.value ?? null;
    return row[key] ?? null;
  }
  function compare(a, b) {
    const x = value(a.row, order.key), y = value(b.row, order.key);
    if ((x === null) !== (y === null)) return x === null ? 1 : -1; // what is not known comes last either way
    const found = typeof x === "number" && typeof y === "number" ? x - y : String(x).localeCompare(String(y), undefined, { numeric: true });
    return (order.down ? -found : found) || a.row.name.localeCompare(b.row.name, undefined, { numeric: true });
  }
  const wanted = (row) => {
    const words = $("find").value.toLowerCase().split(/\s+/).filter(Boolean);
    const said = [row.name, row.task, row.sampler, row.model, `seed ${row.seed}`, row.state].join(" ").toLowerCase();
    return (!$("state").value || row.state === $("state").value) && words.every((w) => said.includes(w));
  };

  function draw() {
    const listed = [...known.values()].filter((e) => wanted(e.row)).sort(compare);
    for (const cell of $("head").querySelectorAll("th")) {
      if (cell.dataset.key === order.key) cell.setAttribute("aria-sort", order.down ? "descending" : "ascending");
      else cell.removeAttribute("aria-sort");
    }
    listed.forEach(fill);
    const lines = listed.map((e) => e.line), now = [...$("rows").children];
    if (lines.length !== now.length || lines.some((l, i) => l !== now[i])) {
      const focused = document.activeElement;
      $("rows").replaceChildren(...lines);
      if (focused?.isConnected && focused !== document.body) focused.focus();
    }
    choose();
    const rows = [...known.values()].map((e) => e.row), working = rows.filter(busy).length;
    const said = `${rows.length} run${rows.length === 1 ? "" : "s"}, ${working} at work${listed.length < rows.length ? `, ${listed.length} listed` : ""}`;
    if ($("status").textContent !== said) $("status").textContent = said; // spoken only when it says something new
    document.title = working ? `(${working}) spa-bench view` : "spa-bench view";
    for (const id of ["table", "controls"]) $(id).hidden = !rows.length;
    $("empty").hidden = rows.length > 0;
  }

  const listed = () => [...$("rows").children].map((l) => [...known.values()].find((e) => e.line === l));
  const openable = (entry) => entry.row.state !== "newer" && entry.row.sampler !== undefined;
  function choose() {
    const chosen = [...known.values()].filter((e) => e.chosen.checked);
    for (const entry of known.values()) entry.line.classList.toggle("chosen", entry.chosen.checked);
    $("open").disabled = !chosen.some(openable);
    $("open").textContent = chosen.length ? `Open ${chosen.length} chosen` : "Open chosen";
    const shown = listed();
    $("all").checked = shown.length > 0 && shown.every((e) => e.chosen.checked);
  }

  // the server ----------------------------------------------------------------------------------------------------

  async function look() {
    clearTimeout(timer);
    let next = LOST;
    try {
      const answer = await fetch("/api/runs");
      if (!answer.ok) throw new Error(`it answered ${answer.status}`);
      const found = await answer.json();
      if (heads !== found.metrics.join()) {
        heads = found.metrics.join();
        columns = found.metrics;
        head();
      }
      const there = new Set(found.runs.map((row) => row.id));
      for (const [id, entry] of known) if (!there.has(id)) { entry.line.remove(); known.delete(id); }
      for (const row of found.runs) {
        const entry = known.get(row.id) ?? line(row);
        if (!entry.first || entry.first.stage !== row.stage || entry.first.share > share(row)) {
          entry.first = { stage: row.stage, share: share(row), at: Date.now() / 1000 };
        }
        entry.row = row;
        known.set(row.id, entry);
      }
      $("trouble").hidden = true;
      draw();
      next = found.runs.some(busy) ? QUICK : SLOW;
    } catch (error) {
      $("trouble").textContent = `The server does not answer (${error.message}): was it ended? What is listed is as it was.`;
      $("trouble").hidden = false;
    }
    clearTimeout(timer);
    if (!document.hidden) timer = setTimeout(look, next);
  }

  for (const state of Object.keys(MARKS)) $("state").append(new Option(state, state));
  $("find").addEventListener("input", draw);
  $("state").addEventListener("change", draw);
  $("all").addEventListener("change", () => {
    const on = $("all").checked;
    for (const entry of listed()) entry.chosen.checked = on;
    choose();
  });
  $("open").addEventListener("click", () => {
    location.href = address([...known.values()].filter((e) => e.chosen.checked && openable(e)).map((e) => e.row.id));
  });
  document.addEventListener("visibilitychange", () => { if (!document.hidden) look(); });
  look();
})();
