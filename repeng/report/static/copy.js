"use strict";
// Buttons that copy the text of a block. Without script they stay hidden, and the text can be selected.

async function copy(block) {
  try {
    await navigator.clipboard.writeText(block.textContent);
    return true;
  } catch {
    const range = document.createRange(), chosen = getSelection();
    range.selectNodeContents(block);
    chosen.removeAllRanges();
    chosen.addRange(range);
    return document.execCommand("copy");
  }
}

const said = document.createElement("p");
said.className = "unseen";
said.setAttribute("role", "status");
document.body.append(said);
for (const button of document.querySelectorAll("button[data-copy]")) {
  const block = document.getElementById(button.dataset.copy), label = button.firstChild, before = label.data;
  button.hidden = false;
  button.addEventListener("click", async () => {
    const done = await copy(block);
    label.data = done ? "Copied" : "Selected: press Ctrl+C";
    said.textContent = `${label.data}: ${block.getAttribute("aria-label")}`;
    setTimeout(() => { label.data = before; }, 2000);
  });
}
