"use strict";
// the browser of answers: a problem's chunk is unpacked when it is opened, and every text goes in as text, never as markup
(() => {
  const browser = document.getElementById("browser");
  if (!browser) return;
  const index = JSON.parse(document.getElementById("index").textContent);
  const $ = (id) => document.getElementById(id);
  const STEP = 24; // answers that are drawn at once
  const MARKS = { passed: "✓", wrong: "✗", raised: "!", timeout: "⏱", memory: "▣", crashed: "☠", refused: "∅", unjudged: "○", "not graded": "?" };
  const ODD = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u00ad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb]|[\ud800-\udbff](?![\udc00-\udfff])|(?<![\ud800-\udbff])[\udc00-\udfff]/g;
  const state = { problem: -1, runs: null, base: null, cards: [], drawn: 0, content: null, turn: 0 };

  // invisible and misleading characters are written as their code, as in the rest of the page
  const visible = (text) => text.replace(ODD, (c) => "\\u" + c.charCodeAt(0).toString(16).padStart(4, "0"));

  function element(tag, content, name) {
    const made = document.createElement(tag);
    if (name) made.className = name;
    if (content !== undefined) made.textContent = visible(String(content));
    return made;
  }

  const unpack = async (place) => JSON.parse(await window.spaBench.unpack(`chunk-${place}`));

  // which problem: the address ------------------------------------------------------------------------------------

  const titles = new Map(index.tasks.map((t) => [t.key, t.title]));
  const places = new Map(index.problems.map((p, i) => [`${p.task}\n${p.id}`, i]));
  const part = (text) => encodeURIComponent(text.toWellFormed ? text.toWellFormed() : text);
  // runs are named by their hashes: a page of more runs, or of the same runs in another order, opens the same answers
  const address = (place, chosen = state.runs) => {
    const { task, id } = index.problems[place];
    const runs = chosen === null ? "" : `?runs=${[...chosen].sort((a, b) => a - b).map((r) => index.runs[r].hash.slice(0, 12)).join(",")}`;
    return `#/problem/${part(task)}/${part(id)}${runs}`;
  };
  const ofName = (name) => index.runs.findIndex((run, i) => (name.length < 8 ? String(i) === name : run.hash.startsWith(name)));

  function routed() {
    const [path, query] = location.hash.split("?");
    const pieces = path.split("/");
    if (pieces.length === 3 && pieces[1] === "sampler") return ofSampler(pieces[2]);
    if (pieces.length !== 4 || pieces[1] !== "problem") return null;
    try {
      const [task, id] = pieces.slice(2).map(decodeURIComponent);
      const wanted = new URLSearchParams(query ?? "").get("runs");
      const runs = wanted === null ? null : wanted.split(",").map(ofName).filter((r) => r >= 0);
      let place = places.get(`${task}\n${id}`);
      if (place === undefined) place = index.problems.findIndex((p) => part(p.task) === pieces[2] && part(p.id) === pieces[3]);
      return { place: place ?? -1, runs, missing: `problem ${id}` };
    } catch {
      return null; // not an address of ours
    }
  }

  // the answers of all runs of a sampler, to the problem that is open if it has any there
  function ofSampler(group) {
    const runs = index.runs.map((run, i) => (run.group === group ? i : -1)).filter((r) => r >= 0);
    const has = (problem) => problem?.runs.some((run) => runs.includes(run));
    const place = has(index.problems[state.problem]) ? state.problem : index.problems.findIndex(has);
    return { place, runs, missing: `answer of a sampler ${group}` };
  }

  // what is chosen ------------------------------------------------------------------------------------------------

  function list() {
    const words = $("find").value.toLowerCase().split(/\s+/).filter(Boolean);
    const several = index.tasks.length > 1;
    const select = $("problem");
    select.replaceChildren();
    index.problems.forEach((problem, place) => {
      const name = (several ? `${titles.get(problem.task)}: ` : "") + problem.id;
      if (!words.every((word) => name.toLowerCase().includes(word))) return;
      const [passed, judged] = problem.passed;
      const option = element("option", judged ? `${name} (${passed} of ${judged} pass)` : name);
      option.value = String(place);
      select.append(option);
    });
    select.value = String(state.problem);
  }

  function chosenRuns() {
    const there = index.problems[state.problem].runs;
    if (state.runs === null) return there.slice(0, 1);
    return there.filter((run) => state.runs.has(run));
  }

  function listRuns() {
    const there = index.problems[state.problem].runs;
    const chosen = new Set(chosenRuns());
    const boxes = there.map((run) => {
      const label = element("label");
      const check = element("input");
      check.type = "checkbox";
      check.checked = chosen.has(run);
      check.addEventListener("change", () => {
        const now = new Set(chosenRuns());
        if (check.checked) now.add(run);
        else now.delete(run);
        choose(now);
      });
      label.append(check, ` ${visible(index.runs[run].label)}`);
      return label;
    });
    $("runs").replaceChildren($("runs").querySelector("legend"), ...boxes);
    $("which-count").textContent = `${chosen.size} of ${there.length}`;
  }

  function choose(runs) {
    state.runs = new Set(runs);
    history.replaceState(null, "", address(state.problem));
    listRuns();
    options();
    show();
  }

  function oneSeed() {
    const seen = new Set();
    return index.problems[state.problem].runs.filter((run) => {
      const { group } = index.runs[run];
      return !seen.has(group) && seen.add(group);
    });
  }

  // what is shown -------------------------------------------------------------------------------------------------

  function answers() {
    const { texts, words, answers: columns } = state.content;
    const found = [];
    for (const run of chosenRuns()) {
      const [members, draws, graded, raw, verdicts, said, tokens, choice] = columns[run] ?? [[]];
      members.forEach((member, i) => {
        const own = $("raw").checked && raw[i] >= 0 ? raw[i] : graded[i];
        found.push({
          key: `${run}/${member}/${draws[i]}`, run, member, draw: draws[i], place: own, text: texts[own], verdict: words[verdicts[i]],
          said: said[i] < 0 ? "" : words[said[i]], tokens: tokens[i], choice: choice[i], others: [],
        });
      });
    }
    return found;
  }

  function together(found) {
    const first = new Map();
    for (const answer of found) {
      const key = `${inColumns() ? answer.run : ""}/${answer.place}/${answer.verdict}/${answer.said}/${answer.choice}`;
      if (first.has(key)) first.get(key).others.push(answer);
      else first.set(key, answer);
    }
    return [...first.values()].sort((a, b) => b.others.length - a.others.length);
  }

  function show() {
    const all = answers();
    const verdicts = new Map();
    for (const { verdict } of all) verdicts.set(verdict, (verdicts.get(verdict) ?? 0) + 1);
    const before = $("verdict").value;
    $("verdict").replaceChildren(...[["", all.length], ...verdicts].map(([verdict, count]) => {
      const option = element("option", `${verdict || "any"} (${count})`);
      option.value = verdict;
      return option;
    }));
    $("verdict").value = verdicts.has(before) ? before : "";
    const wanted = $("verdict").value;
    const kept = all.filter((a) => !wanted || a.verdict === wanted);
    state.cards = $("together").checked ? together(kept) : kept;
    state.first = all.find((a) => a.key === state.base) ?? state.cards[0];
    state.drawn = 0;
    state.columns = inColumns() ? chosenRuns().map((run) => column(run, all)) : [{ box: $("cards"), cards: state.cards }];
    $("columns").disabled = chosenRuns().length < 2;
    $("cards").classList.toggle("columns", inColumns());
    $("cards").tabIndex = inColumns() ? 0 : -1;
    $("cards").replaceChildren(...(inColumns() ? state.columns.map((c) => c.box) : []));
    $("address").href = address(state.problem, chosenRuns());
    const different = new Set(all.map((a) => a.place)).size;
    const counts = [...verdicts].map(([verdict, count]) => `${count} ${verdict}`).join(", ");
    $("problem-said").textContent = `${all.length} answers, ${different} different: ${counts || "none of the runs that are chosen has any"}`;
    more();
  }

  function more() {
    const step = Math.max(4, Math.ceil(STEP / state.columns.length)); // of each column
    for (const { box, cards } of state.columns) box.append(...cards.slice(state.drawn, state.drawn + step).map(card));
    state.drawn += step;
    const left = state.columns.map(({ cards }) => Math.max(0, cards.length - state.drawn));
    const sum = (numbers) => numbers.reduce((a, b) => a + b, 0);
    $("more").hidden = sum(left) === 0;
    $("more").textContent = `${sum(left.map((l) => Math.min(l, step)))} more of ${sum(left)}`;
  }

  const inColumns = () => $("columns").checked && chosenRuns().length > 1;

  // the answers of one run under its name, with how many pass and how many texts differ
  function column(run, all) {
    const box = element("section", undefined, "column");
    const { label } = index.runs[run];
    box.setAttribute("aria-label", visible(label));
    const mine = all.filter((a) => a.run === run);
    const judged = mine.filter((a) => a.verdict !== "not graded" && a.verdict !== "unjudged");
    const passed = judged.filter((a) => a.verdict === "passed").length;
    const different = new Set(mine.map((a) => a.place)).size;
    const head = element("header");
    head.append(
      element("h4", label),
      element("p", `${judged.length ? `${passed} of ${judged.length} pass, ` : ""}${different} different`, "hint"),
    );
    box.append(head);
    return { box, cards: state.cards.filter((a) => a.run === run) };
  }

  // the answers that the filter keeps, as CSV
  function save() {
    const { task, id } = index.problems[state.problem];
    const rows = [["task", "problem", "run", "sampler", "seed", "member", "draw", "verdict", "tokens", "option", "remarks", "text"]];
    const wanted = $("verdict").value;
    for (const a of answers().filter((one) => !wanted || one.verdict === wanted)) {
      const { hash, sampler, seed } = index.runs[a.run];
      rows.push([task, id, hash, sampler, seed, a.member, a.draw, a.verdict, a.tokens, a.choice < 0 ? "" : a.choice, a.said, a.text]);
    }
    window.spaBench.save(`answers ${id}`, rows);
  }

  const name = (a) => `${index.runs[a.run].label} · member ${a.member} · draw ${a.draw}`;

  function card(answer) {
    const box = element("article", undefined, "answer");
    const own = name(answer);
    const head = inColumns() ? element("h5", own.slice(index.runs[answer.run].label.length + 3)) : element("h4", own);
    const words = index.runs[answer.run].words[answer.member];
    const badge = element("p", undefined, `verdict ${answer.verdict.replace(/[^a-z]/g, "-")}`);
    badge.append(element("span", MARKS[answer.verdict] ?? "·", "mark"), ` ${visible(answer.verdict)}`);
    const facts = [`${answer.tokens} tokens`];
    if (answer.choice >= 0) facts.push(`option ${answer.choice}`);
    badge.append(element("small", ` ${facts.join(", ")}`));
    const base = state.first;
    const isBase = base && base.key === answer.key;
    const code = element("pre", undefined, "text");
    code.tabIndex = 0;
    code.setAttribute("aria-label", `answer of ${visible(name(answer))}`);
    code.append(...(isBase || !base ? [visible(answer.text)] : marked(base.text, answer.text)));
    box.append(head, badge);
    if (words) box.append(element("p", `part ${answer.member}: ${words}`, "hint part"));
    box.append(code);
    if (!answer.text.trim()) code.append(element("i", "no text"));
    if (answer.said) box.append(element("pre", answer.said, "said"));
    if (answer.others.length) {
      const others = element("details");
      others.append(element("summary", `and ${answer.others.length} equal answers`));
      const names = element("ul");
      names.append(...answer.others.map((other) => element("li", name(other))));
      others.append(names);
      box.append(others);
    }
    const how = element("p", undefined, "compare");
    if (isBase) {
      how.append(element("b", "the others are compared with this one"));
    } else {
      if (base && base.text === answer.text) how.append(element("span", "same text as the one compared with "));
      const button = element("button", "compare with this");
      button.type = "button";
      button.addEventListener("click", () => { state.base = answer.key; show(); });
      how.append(button);
    }
    box.append(how);
    return box;
  }

  // pieces of `text`, with what `base` has not inserted and what it has besides struck out
  function marked(base, text) {
    const by = $("by").value;
    if (!by || base === text) return [visible(text)];
    const options = { timeout: 150, maxEditLength: 2000 };
    const changes = by === "lines" ? Diff.diffLines(base, text, options) : Diff.diffWordsWithSpace(base, text, options);
    if (!changes) return [element("i", "too different to mark\n"), visible(text)];
    return changes.map((c) => {
      if (!c.added && !c.removed) return visible(c.value);
      const piece = element(c.added ? "ins" : "del", c.value);
      return piece;
    });
  }

  function options() {
    const box = $("options");
    const tables = chosenRuns().filter((run) => state.content.logprobs[run]).map((run) => {
      const rows = state.content.logprobs[run];
      const table = element("table");
      table.append(element("caption", `log-probability of each option by the members of ${index.runs[run].label}`));
      const head = element("tr");
      head.append(element("th", "member"), ...rows[0].map((_, i) => element("th", `option ${i}`)));
      for (const cell of head.children) cell.scope = "col";
      const top = element("thead");
      top.append(head);
      const body = element("tbody");
      rows.forEach((row, member) => {
        const line = element("tr");
        const first = element("th", member);
        first.scope = "row";
        line.append(first, ...row.map((value) => element("td", value.toFixed(3))));
        body.append(line);
      });
      table.append(top, body);
      return table;
    });
    box.replaceChildren(...tables);
    box.hidden = tables.length === 0;
  }

  async function open(place, { focus = false } = {}) {
    const turn = ++state.turn;
    state.problem = place;
    state.base = null;
    const { task, id } = index.problems[place];
    if (![...$("problem").options].some((o) => Number(o.value) === place)) $("find").value = "";
    list();
    try {
      const content = await unpack(place);
      if (turn !== state.turn) return; // another was opened meanwhile
      state.content = content;
    } catch (error) {
      browser.inert = false;
      $("problem-said").textContent = `This browser cannot unpack the answers (${error.message}); it needs DecompressionStream.`;
      return;
    }
    $("problem-title").textContent = visible(index.tasks.length > 1 ? `${titles.get(task)}: ${id}` : id);
    $("question").hidden = state.content.question === null;
    $("question").textContent = visible(state.content.question ?? "");
    $("previous").disabled = place === 0;
    $("next").disabled = place === index.problems.length - 1;
    listRuns();
    options();
    show();
    browser.dataset.problem = String(place);
    browser.inert = false;
    window.spaBench.ready ??= performance.now();
    if (focus) {
      $("problem-title").scrollIntoView();
      $("problem-title").focus();
    }
  }

  function go(place) {
    if (place < 0 || place >= index.problems.length || location.hash === address(place)) return;
    state.own = true;
    location.hash = address(place);
  }

  function step(by) {
    const shown = [...$("problem").options].map((o) => Number(o.value));
    const at = shown.indexOf(state.problem);
    const next = at < 0 ? state.problem + by : shown[at + by];
    if (next !== undefined) go(next);
  }

  function follow(first) {
    const wanted = routed();
    if (wanted === null) {
      if (first) open(0);
      return;
    }
    if (wanted.runs !== null) state.runs = new Set(wanted.runs);
    const own = state.own;
    state.own = false;
    if (wanted.place >= 0) open(wanted.place, { focus: first || !own });
    else {
      const say = () => { $("problem-said").textContent = visible(`There is no ${wanted.missing} here.`); };
      if (first) open(0).then(say);
      else say();
    }
  }

  $("find").addEventListener("input", list);
  $("find").addEventListener("keydown", (event) => {
    const [found] = $("problem").options;
    if (event.key === "Enter" && found) go(Number(found.value));
  });
  $("problem").addEventListener("change", () => go(Number($("problem").value)));
  $("previous").addEventListener("click", () => step(-1));
  $("next").addEventListener("click", () => step(1));
  $("more").addEventListener("click", more);
  $("runs-all").addEventListener("click", () => choose(index.problems[state.problem].runs));
  $("runs-first").addEventListener("click", () => choose(index.problems[state.problem].runs.slice(0, 1)));
  $("runs-seed").addEventListener("click", () => choose(oneSeed()));
  $("beside").addEventListener("click", () => { $("columns").checked = true; choose(oneSeed()); });
  $("beside").hidden = new Set(index.runs.map((run) => run.group)).size < 2;
  $("save").addEventListener("click", save);
  for (const id of ["verdict", "by", "together", "raw", "columns"]) $(id).addEventListener("change", show);
  document.addEventListener("keydown", (event) => {
    if (event.altKey || event.ctrlKey || event.metaKey || event.shiftKey) return;
    if (event.target.closest("input, select, textarea, .scroll, pre") || event.target.matches(".columns, .mark-symbol path")) return;
    const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (by) {
      event.preventDefault();
      step(by);
    }
  });
  addEventListener("hashchange", () => follow(false));
  browser.hidden = false;
  browser.inert = true; // until the first answers are read
  follow(true);
})();
