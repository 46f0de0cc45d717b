// A field above each long table: only rows with all of its words stay. Where scripts are off, the table is as it was.
"use strict";
(() => {
  const LONG = 30;
  function filter(table) {
    const rows = [...table.querySelectorAll("tbody tr")];
    if (rows.length < LONG || table.dataset.filtered) return;
    table.dataset.filtered = "yes";
    const field = document.createElement("input");
    field.type = "search";
    field.className = "table-filter";
    field.placeholder = "Filter " + rows.length + " rows: a model, a stream …";
    field.setAttribute("aria-label", "Filter the table below");
    const count = document.createElement("span");
    count.className = "table-count";
    count.setAttribute("role", "status");
    const texts = rows.map((row) => row.textContent.toLowerCase());
    field.addEventListener("input", () => {
      const words = field.value.toLowerCase().split(/\s+/).filter(Boolean);
      let shown = 0;
      rows.forEach((row, i) => {
        const fits = words.every((word) => texts[i].includes(word));
        row.hidden = !fits;
        shown += fits ? 1 : 0;
      });
      count.textContent = words.length ? shown + " of " + rows.length : "";
    });
    const place = table.closest(".md-typeset__scrollwrap") || table;
    place.before(field, count);
  }
  const run = () => document.querySelectorAll(".md-typeset table").forEach(filter);
  document.readyState === "loading" ? document.addEventListener("DOMContentLoaded", run) : run();
})();
