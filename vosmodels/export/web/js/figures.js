import { at } from "./messages.js";
import { shown } from "./colours.js";

/** Bring buttons, figures and the list of objects up to date; chosen(id) is told of a choice. */
export function refresh({ player, painting, source }, chosen) {
  const { playing, position, figures, rate, last } = player;
  at("play").setAttribute("aria-label", playing ? "Pause" : "Play");
  at("play").classList.toggle("playing", playing);
  for (const id of ["play", "position"]) at(id).disabled = false;
  at("back").disabled = position === 0;
  at("forward").disabled = position >= source.count - 1;
  at("position").max = Math.max(0, last);
  at("position").value = position;
  at("position").setAttribute("aria-valuetext", `frame ${position + 1} of ${last + 1}`);
  at("counter").textContent = source.live ? `${position + 1}` : `${position + 1} / ${last + 1}`;
  at("ms").textContent = figures ? `${Math.round(figures.ms)} ms` : "–";
  at("rate").textContent = playing && rate ? rate.toFixed(1) : "–";
  at("memory").textContent = figures
    ? `${megabytes(figures.bytes)}, ${figures.frames} of ${figures.most} frames`
    : "–";
  listObjects(at("objects"), painting, chosen);
}

function megabytes(bytes) {
  return `${(bytes / 2 ** 20).toFixed(bytes < 1e7 ? 1 : 0)} MiB`;
}

function listObjects(element, painting, chosen) {
  const held = element.contains(document.activeElement);
  element.replaceChildren(...painting.objects.map((id) => {
    const label = document.createElement("label");
    const input = Object.assign(document.createElement("input"), {
      type: "radio", name: "object", value: id, checked: id === painting.selected,
    });
    const text = document.createElement("span");
    const dot = document.createElement("i");
    dot.style.setProperty("--colour", `rgb(${shown(id).join(" ")})`);
    text.append(dot, `${id}`);
    label.append(input, text);
    label.classList.toggle("ended", painting.ended(id));
    input.setAttribute("aria-label", `Object ${id}`);
    input.addEventListener("change", () => chosen(id));
    return label;
  }));
  if (held) element.querySelector("input:checked")?.focus();
}
