// Adds two filters to the page of claims. Without this script the page shows all claims.
"use strict";
(() => {
  const form = document.getElementById("filters");
  const cards = [...document.querySelectorAll("[data-verdict]")];
  const shown = document.getElementById("shown");
  const filter = () => {
    const wanted = { verdict: form.elements.verdict.value, origin: form.elements.origin.value };
    for (const card of cards) {
      card.hidden = Object.keys(wanted).some((key) => wanted[key] && card.dataset[key] !== wanted[key]);
    }
    for (const group of document.querySelectorAll(".claim-group")) {
      group.hidden = !group.querySelector("[data-verdict]:not([hidden])");
    }
    shown.textContent = `${cards.filter((card) => !card.hidden).length} of ${cards.length} claims`;
  };
  form.hidden = false;
  form.addEventListener("change", filter);
  form.addEventListener("reset", () => setTimeout(filter));
  filter();
})();
