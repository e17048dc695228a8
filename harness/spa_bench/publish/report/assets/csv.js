"use strict";
// tables as CSV files, made and kept in the browser: nothing is sent
window.spaBench = Object.assign(window.spaBench ?? {}, {
  // a text that a spreadsheet would take for a formula gets a ' in front; numbers stay as they are
  csv(rows) {
    const field = (value) => {
      const text = String(value ?? "");
      const safe = /^[=+\-@\t\r]/.test(text) && Number.isNaN(Number(text)) ? `'${text}` : text;
      return /[",\r\n]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
    };
    return rows.map((row) => row.map(field).join(",") + "\r\n").join("");
  },

  save(name, rows) {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([window.spaBench.csv(rows)], { type: "text/csv;charset=utf-8" }));
    link.download = `${name.replace(/[^A-Za-z0-9._-]+/g, "-").replace(/^[-.]+|[-.]+$/g, "").slice(0, 80) || "table"}.csv`;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
  },

  // the rows and columns that are shown; an estimate has a column each for its value and the ends of its interval
  tableRows(table) {
    const heads = [...table.tHead.rows[0].cells];
    const rows = [...table.tBodies[0].rows].filter((row) => !row.hidden);
    const shown = heads.map((_, i) => i).filter((i) => !heads[i].classList.contains("off"));
    const ends = new Set(shown.filter((i) => rows.some((row) => row.cells[i]?.dataset.low !== undefined)));
    const text = (cell) => {
      const blocks = [...cell.querySelectorAll("pre")];
      return blocks.length ? blocks.map((b) => b.textContent).join("\n\n") : cell.textContent.replace(/\s+/g, " ").trim();
    };
    const head = shown.flatMap((i) => {
      const name = heads[i].dataset.metric ?? text(heads[i]);
      return ends.has(i) ? [name, `${name} low`, `${name} high`] : [name];
    });
    const body = rows.map((row) => shown.flatMap((i) => {
      const cell = row.cells[i];
      const value = cell.dataset.value ?? text(cell);
      return ends.has(i) ? [value, cell.dataset.low ?? "", cell.dataset.high ?? ""] : [value];
    }));
    return [head, ...body];
  },
});
