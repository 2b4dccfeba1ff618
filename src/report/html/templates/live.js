// The live view: asks for the charts each second, and keeps what a person has opened, chosen or focused.
(() => {
  const main = document.querySelector("[data-live]");
  const lead = document.querySelector(".lead");
  const said = lead.textContent;
  let missed = 0;

  // The sections come one after the other, and the list of contents with them.
  function contents() {
    const list = document.querySelector("nav ul");
    const sections = [...main.querySelectorAll("section section[id]")];
    if (list.children.length === sections.length) return;
    list.replaceChildren(...sections.map((one) => {
      const link = document.createElement("a");
      link.href = "#" + one.id;
      link.textContent = one.querySelector("h3").textContent;
      const item = document.createElement("li");
      item.append(link);
      return item;
    }));
  }

  async function redraw() {
    try {
      const answer = await fetch("/charts", { cache: "no-store", signal: AbortSignal.timeout(5000) });
      if (!answer.ok) throw new Error(String(answer.status));
      const text = await answer.text();
      const open = [...main.querySelectorAll("details[open][id]")].map((one) => one.id);
      const chosen = [...main.querySelectorAll(".choice input:checked")].map((one) => [one.name, one.value]);
      const focus = [...main.querySelectorAll(".view")].indexOf(document.activeElement);
      main.innerHTML = text;
      for (const id of open) {
        const one = document.getElementById(id);
        if (one) one.open = true;
      }
      for (const [name, value] of chosen) {
        const one = main.querySelector(`input[name="${CSS.escape(name)}"][value="${CSS.escape(value)}"]`);
        if (one) one.checked = true;
      }
      const view = focus >= 0 && main.querySelectorAll(".view")[focus];
      if (view) view.focus({ preventScroll: true });
      contents();
      window.freshbenchRedrawn();
      missed = 0;
      lead.textContent = said;
    } catch {
      missed += 1;
      if (missed > 2) lead.textContent = "Nothing is heard of the run any more: it has ended, or was stopped. What was last seen stays here.";
    }
    setTimeout(redraw, document.hidden ? 5000 : 1000);
  }
  setTimeout(redraw, 1000);
})();
