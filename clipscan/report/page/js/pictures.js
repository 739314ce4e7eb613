/** Pictures of the page: those of the sections without scripts, all others from the packed text. */
import { h } from "./dom.js";
import { plain } from "./text.js";

const SMALL = 64; // pictures up to this side are shown pixel for pixel
const ENCODINGS = { i: "png", "/": "jpeg", U: "webp" }; // by the first letter of their base64
const IN_PAGE = -1;

let packed = null;
let shown = null;

/** {url} of a sample's picture, or {reason} why there is none. */
export function pictureIn(data, sample) {
  const [place, length] = data.pictures.place[sample.number] ?? [-3, 0];
  if (place === IN_PAGE) return { url: picturesShown().get(String(sample.number)) };
  if (place < 0)
    return { reason: data.noPictures || data.pictures.reasons[length] || "this file holds no picture of it" };
  packed ??= document.getElementById("pack").textContent;
  const text = packed.slice(place, place + length);
  return { url: `data:image/${ENCODINGS[text[0]]};base64,${text}` };
}

/** Of every sample the largest picture that the sections without scripts show. */
function picturesShown() {
  if (shown) return shown;
  shown = new Map();
  const largest = new Map();
  for (const image of document.querySelectorAll("img[data-sample]")) {
    const number = image.dataset.sample;
    const width = Number(image.getAttribute("width")) * Number(image.getAttribute("height"));
    if (width > (largest.get(number) ?? 0)) {
      largest.set(number, width);
      shown.set(number, image.getAttribute("src"));
    }
  }
  return shown;
}

/** A picture in its frame, or the reason why there is none. */
export function framed(source, sample, about = true) {
  const frame = h("span", { class: "frame" });
  fillFrame(frame, source, sample, about);
  return frame;
}

/** Show another sample in a frame. */
export function fillFrame(frame, source, sample, about = true) {
  const { url, reason } = source.picture(sample);
  if (!url) {
    frame.replaceChildren(h("span", { class: "nothing" }, plain(reason, 80)));
    return;
  }
  const image = h("img", {
    alt: about ? plain(sample.caption || sample.key, 100) : "",
    decoding: "async",
    draggable: "false",
  });
  image.addEventListener("load", () => {
    image.classList.toggle("pixels", Math.max(image.naturalWidth, image.naturalHeight) <= SMALL);
  });
  image.addEventListener("error", () =>
    frame.replaceChildren(h("span", { class: "nothing" }, "this picture cannot be shown")),
  );
  image.src = url;
  frame.replaceChildren(image);
}
