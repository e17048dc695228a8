"use strict";
// in the head, before anything is painted: the reader's last choice, where the browser keeps it
(() => {
  const stored = () => { try { return localStorage.getItem("spa-bench-theme"); } catch { return null; } };
  const system = matchMedia("(prefers-color-scheme: dark)");
  const dark = () => (document.documentElement.dataset.theme || (system.matches ? "dark" : "light")) === "dark";
  const chosen = stored();
  if (chosen === "dark" || chosen === "light") document.documentElement.dataset.theme = chosen;
  const tell = () => document.dispatchEvent(new CustomEvent("theme"));
  system.addEventListener("change", tell);
  document.addEventListener("DOMContentLoaded", () => {
    const button = document.getElementById("theme");
    if (!button) return;
    const label = () => button.setAttribute("aria-pressed", String(dark()));
    button.hidden = false;
    label();
    document.addEventListener("theme", label);
    button.addEventListener("click", () => {
      document.documentElement.dataset.theme = dark() ? "light" : "dark";
      try { localStorage.setItem("spa-bench-theme", document.documentElement.dataset.theme); } catch { /* not kept then */ }
      tell();
    });
  });
})();
