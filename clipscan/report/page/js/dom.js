/** Elements and small helpers. Text becomes text nodes, never markup: it may come from strangers. */

/** An element: attributes by name, functions under on...; children are nodes, texts, or lists of them. */
export function h(name, attributes = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (typeof value === "function") element.addEventListener(key.slice(2), value);
    else element.setAttribute(key, value === true ? "" : String(value));
  }
  element.append(
    ...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false),
  );
  return element;
}

/** An SVG element, as `h` makes HTML. */
export function svg(name, attributes = {}, ...children) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, String(value));
  element.append(...children);
  return element;
}

/** Call `work` at most once a frame, however often the result is called. */
export function eachFrame(work) {
  let asked = false;
  return () => {
    if (asked) return;
    asked = true;
    requestAnimationFrame(() => {
      asked = false;
      work();
    });
  };
}

/** Call `work` once it has not been asked for during `wait` ms; `.now()` calls it at once if it is due. */
export function settled(work, wait) {
  let timer = 0;
  const later = () => {
    clearTimeout(timer);
    timer = setTimeout(later.now, wait);
  };
  later.now = () => {
    if (timer) {
      clearTimeout(timer);
      timer = 0;
      return work();
    }
    return undefined;
  };
  return later;
}

/** A line at the foot of the window that goes away by itself; read out by screen readers. */
export function say(text) {
  let line = document.getElementById("said");
  if (!line) {
    line = h("p", { id: "said", role: "status", "aria-live": "polite" });
    document.body.append(line);
  }
  line.textContent = text;
  line.classList.add("shown");
  clearTimeout(say.timer);
  say.timer = setTimeout(() => line.classList.remove("shown"), 4000);
}

/** Put a text on the clipboard; where that is not allowed, by a selection. */
export async function copyText(text) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    const field = h("textarea", { "aria-hidden": "true", class: "offstage" });
    field.value = text;
    document.body.append(field);
    field.select();
    document.execCommand("copy");
    field.remove();
  }
  say("copied");
}

/** A modal dialog with a heading; resolves with the value of the button that closed it, "" for Escape. */
export function ask(heading, content, buttons) {
  return new Promise((resolve) => {
    const row = Object.entries(buttons).map(([value, label]) =>
      h("button", { value, class: "plain" }, label),
    );
    const form = h(
      "form",
      { method: "dialog" },
      h("h2", { id: "asked" }, heading),
      content,
      h("p", { class: "answers" }, row),
    );
    const dialog = h("dialog", { "aria-labelledby": "asked" }, form);
    for (const button of row) {
      button.addEventListener("click", (event) => {
        event.preventDefault(); // the policy forbids that forms are sent
        dialog.close(button.value);
      });
    }
    dialog.addEventListener("close", () => {
      resolve(dialog.returnValue);
      dialog.remove();
    });
    document.body.append(dialog);
    dialog.showModal();
  });
}
