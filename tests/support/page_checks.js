// Looks at a page as an accessibility checker would, and tells what is wrong. Contrast is computed as WCAG 2 defines it.
(() => {
  const wrong = [];
  const seen = (one) => one.getClientRects().length > 0 && getComputedStyle(one).visibility !== "hidden";

  function color(text) {
    const parts = text.match(/[\d.]+/g).map(Number);
    return { r: parts[0], g: parts[1], b: parts[2], a: parts.length > 3 ? parts[3] : 1 };
  }
  const over = (top, below) => ({
    r: top.r * top.a + below.r * (1 - top.a), g: top.g * top.a + below.g * (1 - top.a), b: top.b * top.a + below.b * (1 - top.a), a: 1,
  });
  function luminance({ r, g, b }) {
    const [x, y, z] = [r, g, b].map((c) => (c / 255 <= 0.04045 ? c / 255 / 12.92 : ((c / 255 + 0.055) / 1.055) ** 2.4));
    return 0.2126 * x + 0.7152 * y + 0.0722 * z;
  }
  function contrast(a, b) {
    const [x, y] = [luminance(a), luminance(b)].sort((m, n) => n - m);
    return (x + 0.05) / (y + 0.05);
  }
  function ground(one) {
    if (!one) return color("rgb(255, 255, 255)");
    const own = color(getComputedStyle(one).backgroundColor);
    return own.a === 1 ? own : over(own, ground(one.parentElement));
  }

  const said = new Set();
  for (const one of document.querySelectorAll("body *")) {
    const text = [...one.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
    if (!text || !seen(one) || ["SCRIPT", "STYLE"].includes(one.tagName) || one.classList.contains("skip")) continue;
    const style = getComputedStyle(one);
    const drawn = one instanceof SVGElement;
    let below = ground(drawn ? one.closest("div,td") : one);
    if (drawn && one.classList.contains("inside")) {
      const part = one.parentNode.querySelector(".p" + [...one.classList].find((name) => /^i\d$/.test(name)).slice(1));
      below = color(getComputedStyle(part).fill);
    }
    const got = contrast(color(drawn ? style.fill : style.color), below);
    const key = one.tagName + "." + one.className.toString() + Math.round(got * 10);
    if (got < 4.5 && !said.has(key)) {
      said.add(key);
      wrong.push(`contrast ${got.toFixed(2)} of <${one.tagName} class=${one.getAttribute("class")}> ${one.textContent.trim().slice(0, 40)}`);
    }
  }
  for (const line of document.querySelectorAll("svg .line, svg .sign")) {
    if (!seen(line)) continue;
    const style = getComputedStyle(line);
    const got = contrast(color(line.classList.contains("line") ? style.stroke : style.fill), ground(line.closest("div,td")));
    if (got < 3 && !line.classList.contains("faint")) wrong.push(`contrast ${got.toFixed(2)} of a line ${line.getAttribute("class")}`);
  }
  for (const svg of document.querySelectorAll("svg")) {
    if (svg.getAttribute("role") !== "img" || !(svg.getAttribute("aria-label") || "").trim()) wrong.push("a drawing without words");
  }
  let level = 0;
  for (const heading of document.querySelectorAll("h1,h2,h3,h4,h5,h6")) {
    const own = Number(heading.tagName[1]);
    if (own > level + 1) wrong.push(`heading ${heading.tagName} after level ${level}: ${heading.textContent}`);
    level = own;
  }
  if (document.querySelectorAll("h1").length !== 1) wrong.push("not one h1");
  for (const table of document.querySelectorAll("table")) {
    if (!table.caption) wrong.push("a table without a caption");
    const heads = [...table.querySelectorAll("thead th")];
    if (!heads.length || heads.some((head) => head.scope !== "col")) wrong.push("a table without heads");
    for (const row of table.tBodies[0].rows) {
      if (!row.cells[0] || row.cells[0].tagName !== "TH" || !row.cells[0].scope) wrong.push("a row without a head: " + row.textContent);
      const wide = [...row.cells].reduce((sum, cell) => sum + cell.colSpan, 0);
      if (wide !== heads.length) wrong.push(`a row of ${wide} cells under ${heads.length} heads`);
    }
  }
  const ids = [...document.querySelectorAll("[id]")].map((one) => one.id);
  if (new Set(ids).size !== ids.length) wrong.push("an id that is there twice");
  for (const link of document.querySelectorAll('a[href^="#"]')) {
    if (!document.getElementById(link.getAttribute("href").slice(1))) wrong.push("a link to nowhere: " + link.href);
  }
  for (const input of document.querySelectorAll("input")) {
    if (!input.closest("label") && !input.getAttribute("aria-label")) wrong.push("an input without a label");
  }
  if (!document.documentElement.lang || !document.title || !document.querySelector("main")) wrong.push("no language, title or main part");
  // Nothing is wider than the window, but what scrolls in a box of its own.
  if (document.documentElement.scrollWidth > innerWidth + 1) {
    const wide = [...document.querySelectorAll("main *, header *")].filter(
      (one) => seen(one) && !one.closest(".scroll") && one.getBoundingClientRect().right > innerWidth + 1);
    wrong.push(`wider than the window: ${document.documentElement.scrollWidth} > ${innerWidth}: ` +
      wide.slice(0, 3).map((one) => one.tagName + "." + one.getAttribute("class")).join(", "));
  }
  // Texts of a chart that lie on each other can't be read.
  for (const svg of document.querySelectorAll("svg")) {
    if (!seen(svg)) continue;
    const texts = [...svg.querySelectorAll("text")].map((one) => ({ text: one.textContent, box: one.getBoundingClientRect() }));
    texts.forEach((a, n) => texts.slice(n + 1).forEach((b) => {
      const x = Math.min(a.box.right, b.box.right) - Math.max(a.box.left, b.box.left);
      const y = Math.min(a.box.bottom, b.box.bottom) - Math.max(a.box.top, b.box.top);
      if (x > 2 && y > 5) wrong.push(`texts on each other: "${a.text}" and "${b.text}" in ${svg.getAttribute("aria-label").slice(0, 60)}`);
    }));
  }
  return wrong;
})();
