"use strict";
// tables of metrics: sort by a column, filter rows, choose columns
(() => {
  const fold = (text) => text.toLowerCase();

  function valueOf(row, column) {
    const text = row.children[column].dataset.value ?? row.children[column].textContent;
    return text === "" ? null : text;
  }

  function sort(table, column, down) {
    const body = table.tBodies[0];
    const rows = [...body.rows];
    const values = new Map(rows.map((row) => [row, valueOf(row, column)]));
    const numbers = rows.every((row) => values.get(row) === null || !Number.isNaN(Number(values.get(row))));
    const compare = (a, b) => (numbers ? Number(a) - Number(b) : String(a).localeCompare(String(b), "en"));
    rows.sort((a, b) => {
      const [x, y] = [values.get(a), values.get(b)];
      if (x === null || y === null) return (x === null) - (y === null); // what is missing stays at the end
      return down ? compare(y, x) : compare(x, y);
    });
    body.append(...rows);
    for (const head of table.tHead.rows[0].cells) head.removeAttribute("aria-sort");
    table.tHead.rows[0].cells[column].setAttribute("aria-sort", down ? "descending" : "ascending");
  }

  function sortable(table) {
    [...table.tHead.rows[0].cells].forEach((head, column) => {
      const button = document.createElement("button");
      button.type = "button";
      button.append(...head.childNodes);
      head.append(button);
      button.addEventListener("click", () => {
        const now = head.getAttribute("aria-sort");
        // numbers: the largest first, names: from a to z
        sort(table, column, now === null ? column !== 0 : now === "ascending");
      });
    });
  }

  function filterable(box, table) {
    const input = box.querySelector("input.rows");
    const found = box.querySelector(".found");
    input.addEventListener("input", () => {
      const words = fold(input.value).split(/\s+/).filter(Boolean);
      let count = 0;
      for (const row of table.tBodies[0].rows) {
        const text = fold(row.textContent);
        row.hidden = !words.every((word) => text.includes(word));
        count += !row.hidden;
      }
      found.textContent = words.length ? `${count} of ${table.tBodies[0].rows.length} rows` : "";
    });
  }

  function choosable(box, table) {
    const checks = [...box.querySelectorAll("fieldset input")];
    const show = (check) => {
      for (const row of table.rows) row.children[Number(check.dataset.column)].classList.toggle("off", !check.checked);
    };
    const counted = () => {
      box.querySelector(".count").textContent = `${checks.filter((c) => c.checked).length} of ${checks.length}`;
    };
    const set = (wanted) => {
      for (const check of checks) {
        if (check.checked !== wanted(check)) {
          check.checked = wanted(check);
          show(check);
        }
      }
      counted();
    };
    for (const check of checks) check.addEventListener("change", () => { show(check); counted(); });
    const find = box.querySelector("input.find");
    find.addEventListener("input", () => {
      for (const check of checks) check.parentElement.hidden = !fold(check.parentElement.textContent).includes(fold(find.value));
    });
    box.querySelector("button.every").addEventListener("click", () => set((c) => !c.parentElement.hidden || c.checked));
    box.querySelector("button.first").addEventListener("click", () => set((c) => c.dataset.first === "1"));
    counted();
  }

  for (const box of document.querySelectorAll(".metrics")) {
    const table = box.querySelector("table");
    sortable(table);
    const controls = box.querySelector(".controls");
    if (!controls) continue;
    filterable(box, table);
    choosable(box, table);
    controls.hidden = false;
  }

  // every table can be kept as CSV, as it is shown
  for (const box of document.querySelectorAll("main .scroll")) {
    const table = box.querySelector(":scope > table");
    if (!table?.tHead || !table.tBodies.length) continue;
    const name = box.getAttribute("aria-label") ?? "metrics";
    const button = document.createElement("button");
    button.type = "button";
    button.className = "csv";
    button.textContent = "CSV";
    button.setAttribute("aria-label", `CSV: ${name}`);
    button.addEventListener("click", () => window.spaBench.save(`${document.title} ${name}`, window.spaBench.tableRows(table)));
    const controls = box.parentElement.querySelector(":scope > .controls:has(.rows)");
    if (controls) controls.append(button);
    else box.after(button);
  }

  // a link to a sampler opens what it leads to
  function open() {
    const target = location.hash.startsWith("#sampler-") ? document.getElementById(location.hash.slice(1)) : null;
    if (target) {
      target.open = true;
      target.scrollIntoView();
      target.querySelector("summary").focus();
    }
  }
  addEventListener("hashchange", open);
  open();
})();
