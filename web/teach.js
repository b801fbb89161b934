/** Teaches signs: collects examples, lets the server enroll them, and lists the signs kept in this browser. */

import { compact, readClip } from "./clip.js";
import { EnrolledStore, advice } from "./enrolled.js";
import { $, download, element, onLanguage, onPress, removeMessages, setEnabled, showMessage, state, t } from "./page.js";

const NEEDED = 3;

/** Replacement for the storage of browsers in which it is switched off. */
const noStorage = {
  getItem: () => null,
  setItem() {
    throw new Error("no storage");
  },
  removeItem() {},
};

export class Teach {
  #examples = [];
  #advice = null;
  #store = null;

  /**
   * @param {object} page
   * @param {() => object} page.model
   * @param {(body: string) => Promise<?object>} page.ask sends a request; null if it failed and the page has shown a message
   * @param {() => ?object} page.last returns the last clip
   * @param {() => void} page.record records an example
   * @param {(file: File) => boolean} page.fits returns whether the server accepts a file of this size, or shows a message
   * @param {(file: File) => Promise<boolean>} page.read reads a video
   * @param {() => void} page.changed called when the kept signs change
   */
  constructor(page) {
    this.page = page;
    onPress("teach-record", () => page.record());
    onPress("teach-add-last", () => this.add(page.last()));
    onPress("teach-file-button", () => $("teach-file").click());
    $("teach-file").addEventListener("change", (event) => this.#files([...event.target.files]));
    $("teach-name").addEventListener("input", () => this.write());
    onPress("teach-learn", () => this.#learn());
    onPress("teach-download", () => download(this.#store.text, "enrolled.json"));
    onLanguage(() => this.write());
  }

  /** The taught signs to send with requests, null if there are none. */
  get toSend() {
    return this.page.model().enrolment ? (this.#store?.toSend ?? null) : null;
  }

  get names() {
    return this.toSend ? this.#store.names : [];
  }

  /** Load the signs that were taught to the model of this name and version. */
  open({ name, version, enrolment }) {
    $("teach").hidden = !enrolment;
    let storage = noStorage;
    try {
      storage = localStorage;
    } catch {
      // the browser's settings forbid storage
    }
    this.#store = enrolment ? new EnrolledStore(storage, name, version) : null;
    this.write();
  }

  /** Handle the server's error that the kept signs belong to other weights. */
  refused() {
    this.#store.unusable = true;
    showMessage("warning", "enrolled_unusable");
    this.write();
    this.page.changed();
  }

  /** Add a clip as an example. */
  add(clip) {
    if (!clip) return;
    this.#examples.push({ body: compact(clip, this.page.model().layout), frames: clip.frames.length });
    this.write();
  }

  async #files(files) {
    $("teach-file").value = "";
    for (const file of files) {
      if (!/\.json$/i.test(file.name)) {
        if (!(await this.page.read(file))) return; // `read` has shown a message
        continue;
      }
      if (!this.page.fits(file)) continue;
      const text = await file.text();
      const clip = readClip(text, this.page.model().layout);
      const body = clip ? null : parseObject(text);
      if (clip) this.add(clip);
      else if (body) this.#examples.push({ body, frames: countFrames(body) });
      else showMessage("error", "bad_file", { name: file.name });
    }
    this.write();
  }

  async #learn() {
    const gloss = $("teach-name").value.trim();
    const clips = this.#examples.map((example) => example.body);
    const body = { enroll: gloss, clips, ...(this.toSend ? { enrolled: this.toSend } : {}) };
    removeMessages();
    const answer = await this.page.ask(JSON.stringify(body));
    if (!answer) return;
    const { enrolled, agreement, nearest, similarity } = answer;
    const dropped = this.#store.unusable ? this.#store.names : [];
    this.#change(() => this.#store.add(enrolled));
    removeMessages("enrolled_unusable");
    if (dropped.length) showMessage("info", "enrolled_dropped", { glosses: dropped.join(", ") });
    showMessage("info", "learned", { gloss });
    this.#advice = { gloss, nearest, keys: advice({ agreement, similarity }) };
    this.#examples = [];
    $("teach-name").value = "";
    this.write();
    this.page.changed();
    $("teach-name").focus();
  }

  #remove(gloss) {
    this.#change(() => this.#store.remove(gloss));
    if (!this.#store.glosses.length) removeMessages("enrolled_unusable");
    this.write();
    this.page.changed();
    ($("teach-list").querySelector("button") ?? $("teach-name")).focus();
  }

  /** Change the kept signs; show a message if the browser cannot store them. */
  #change(change) {
    try {
      change();
    } catch {
      showMessage("warning", "storage_full");
    }
  }

  /** Write the examples, the kept signs and the advice. */
  write() {
    const remove = (label, action) => {
      const button = element("button", { type: "button", className: "remove", text: t("teach.remove"), ariaLabel: label });
      button.addEventListener("click", action);
      return button;
    };
    $("teach-count").textContent = t("teach.examples", { n: this.#examples.length, needed: NEEDED });
    $("teach-examples").replaceChildren(
      ...this.#examples.map((example, i) => {
        const drop = () => {
          this.#examples.splice(i, 1);
          this.write();
          $("teach-record").focus();
        };
        const button = remove(t("teach.remove.example", { i: i + 1 }), drop);
        return element("li", {}, [element("span", { text: t("teach.example", { i: i + 1, n: example.frames }) }), button]);
      }),
    );
    const glosses = this.#store?.glosses ?? [];
    $("teach-list").replaceChildren(
      ...glosses.map(({ gloss, clips }) => {
        const words = [element("strong", { text: gloss }), element("span", { text: t("teach.clips", { n: clips }) })];
        const button = remove(t("teach.remove.gloss", { gloss }), () => this.#remove(gloss));
        return element("li", { dataset: { gloss } }, [...words, button]);
      }),
    );
    $("teach-none").hidden = glosses.length > 0;
    $("teach-kept").hidden = !glosses.length;
    $("teach-advice").replaceChildren(
      ...(this.#advice?.keys ?? []).map((key) => element("p", { text: t(key, this.#advice), dataset: { advice: key } })),
    );
    this.enable();
  }

  /** Write what is missing, and enable the buttons that can be used now. */
  enable() {
    const name = $("teach-name").value.trim();
    const missing = NEEDED - this.#examples.length;
    const { glosses, enrolled } = this.page.model();
    const needs = [];
    if (glosses.includes(name) && !enrolled.includes(name)) needs.push(t("teach.known"));
    if (!name) needs.push(t("teach.need.name"));
    if (missing > 0) needs.push(t("teach.need.clips", { n: missing }));
    $("teach-need").textContent = needs.join(" ");
    const ready = ["idle", "live"].includes(state());
    setEnabled("teach-learn", needs.length === 0 && ready);
    setEnabled("teach-record", ready);
    setEnabled("teach-file-button", ready);
    setEnabled("teach-add-last", ready && Boolean(this.page.last()));
  }
}

/** Parse a JSON object; null if the text is something else. */
function parseObject(text) {
  try {
    const body = JSON.parse(text);
    return body && typeof body === "object" && !Array.isArray(body) ? body : null;
  } catch {
    return null;
  }
}

/** Estimate the number of frames of a body in any form: the length of its longest list. */
function countFrames(body) {
  return Math.max(0, ...Object.values(body).map((value) => (Array.isArray(value) ? value.length : 0)));
}
