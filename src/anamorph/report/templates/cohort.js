"use strict";
(() => {
  const section = document.querySelector("#pairs");
  const table = section.querySelector("table");
  const body = table.tBodies[0];
  const toolbar = section.querySelector(".toolbar");
  const search = toolbar.querySelector('input[type="search"]');
  const select = toolbar.querySelector("select");
  const statuses = [...toolbar.querySelectorAll("[data-status]")];
  const worst = toolbar.querySelector("[data-worst]");
  const clear = toolbar.querySelector("[data-clear]");
  const count = toolbar.querySelector('[role="status"]');
  const headers = [...table.querySelectorAll("th[data-sort]")];
  const rows = [...body.rows];
  const texts = new Map(rows.map((row) => [row, row.textContent.toLowerCase()]));
  const collator = new Intl.Collator("en", { numeric: true });
  const opposite = { ascending: "descending", descending: "ascending" };

  const numbers = document.querySelector("[data-more]");
  if (numbers) {
    const show = (all) => {
      document.body.classList.toggle("fewer", !all);
      numbers.setAttribute("aria-pressed", all);
    };
    numbers.addEventListener("click", () => show(document.body.classList.contains("fewer")));
    numbers.closest(".toolbar").hidden = false;
    show(false);
  }

  const arrange = (order, header, direction) => {
    headers.forEach((other) => other.removeAttribute("aria-sort"));
    header?.setAttribute("aria-sort", direction);
    worst.setAttribute("aria-pressed", header === undefined);
    body.replaceChildren(...order);
  };
  const sortBy = (header) => {
    const first = header.dataset.first;
    const direction = header.getAttribute("aria-sort") === first ? opposite[first] : first;
    const numeric = header.dataset.sort === "number";
    const sign = direction === "ascending" ? 1 : -1;
    const known = [], missing = [];
    for (const row of rows) {
      const value = row.cells[header.cellIndex].dataset.value;
      if (numeric && value === "") missing.push(row);
      else known.push([numeric ? Number(value) : value, row]);
    }
    // Equal infinities have no difference, so numbers are compared, not subtracted.
    const compare = numeric ? (a, b) => (a > b) - (a < b) : collator.compare;
    known.sort(([a], [b]) => sign * compare(a, b));
    arrange([...known.map(([, row]) => row), ...missing], header, direction);
  };
  const filter = () => {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    const wanted = statuses.filter((b) => b.getAttribute("aria-pressed") === "true").map((b) => b.dataset.status);
    const method = select?.value ?? "";
    let shown = 0;
    for (const row of rows) {
      const kept = words.every((word) => texts.get(row).includes(word))
        && (wanted.length === 0 || wanted.includes(row.dataset.status))
        && (method === "" || row.dataset.method === method);
      row.hidden = !kept;
      shown += kept;
    }
    count.textContent = shown === rows.length ? `${shown} rows` : `${shown} of ${rows.length} rows`;
    clear.hidden = words.length === 0 && wanted.length === 0 && method === "";
    section.querySelector(".nothing").hidden = shown > 0;
  };
  const clearFilters = () => {
    search.value = "";
    if (select) select.value = "";
    statuses.forEach((button) => button.setAttribute("aria-pressed", "false"));
    filter();
  };
  const find = () => {
    const row = rows.find((candidate) => `#${candidate.id}` === location.hash);
    if (row?.hidden) {
      clearFilters();
      row.scrollIntoView();
    }
  };

  headers.forEach((header) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...header.childNodes);
    header.append(button);
    button.addEventListener("click", () => sortBy(header));
  });
  statuses.forEach((button) => button.addEventListener("click", () => {
    button.setAttribute("aria-pressed", button.getAttribute("aria-pressed") !== "true");
    filter();
  }));
  worst.addEventListener("click", () => arrange(rows));
  search.addEventListener("input", filter);
  select?.addEventListener("change", filter);
  clear.addEventListener("click", () => { clearFilters(); search.focus(); });
  addEventListener("hashchange", find);
  toolbar.hidden = false;
  filter(); // a browser keeps what was typed when the page is loaded again
})();
