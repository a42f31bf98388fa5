"use strict";

for (const gallery of document.querySelectorAll(".gallery")) {
  const form = gallery.querySelector(".controls");
  if (!form) continue;
  const boxes = [...gallery.querySelectorAll(".box")];
  const slider = form.querySelector("[type=range]");
  const update = () => {
    const shown = new Set([...form.querySelectorAll("[value]:checked")].map((input) => input.value));
    const least = slider ? Number(slider.value) : 0;
    if (slider) form.querySelector("output").value = least.toFixed(2);
    gallery.classList.toggle("nameless", !form.querySelector(".names").checked);
    for (const box of boxes) {
      const low = box.dataset.score !== undefined && Number(box.dataset.score) < least;
      box.classList.toggle("off", low || !shown.has(box.dataset.kind));
    }
  };
  form.addEventListener("input", update);
  form.addEventListener("submit", (event) => event.preventDefault());
  update();
}

const valueOf = (row, column) => {
  const text = row.cells[column].textContent.trim();
  const number = parseFloat(text.replace(/,/g, ""));
  return Number.isNaN(number) ? text.toLowerCase() : number;
};

const compare = (a, b) => {
  if (typeof a === typeof b) return a < b ? -1 : a > b ? 1 : 0;
  return typeof a === "number" ? -1 : 1;
};

for (const table of document.querySelectorAll(".sortable")) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    head.addEventListener("click", () => {
      const up = head.getAttribute("aria-sort") === "descending";
      for (const other of heads) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", up ? "ascending" : "descending");
      const rows = [...table.tBodies[0].rows];
      rows.sort((a, b) => (up ? 1 : -1) * compare(valueOf(a, column), valueOf(b, column)));
      table.tBodies[0].append(...rows);
    });
  });
}
