/**
 * Signs that a user taught, kept in this browser for one model, in the format of a model folder's enrolled.json. No DOM.
 *
 * The server keeps nothing: it computes a prototype from the examples, and the page sends the prototypes with each request.
 * Prototypes are valid only for the model weights that they were computed with (`space`).
 */

const PREFIX = "spoter.fewshot.enrolled:";

export class EnrolledStore {
  /**
   * @param {Storage} storage localStorage, or an object with its methods
   * @param {string} name of the model
   * @param {string} version of the model
   */
  constructor(storage, name, version) {
    this.storage = storage;
    this.key = `${PREFIX}${JSON.stringify([name, version])}`;
    this.file = this.#read();
    this.unusable = false; // true once the server has reported that they belong to other weights
  }

  get glosses() {
    return this.file?.glosses ?? [];
  }

  get names() {
    return this.glosses.map(({ gloss }) => gloss);
  }

  /** The glosses to send with a request, null if there are none. */
  get toSend() {
    return this.glosses.length && !this.unusable ? this.file : null;
  }

  /**
   * Keep glosses that the server enrolled. They replace glosses of the same name, and all glosses of another space.
   *
   * @param {{space: string, glosses: Array}} enrolled
   */
  add(enrolled) {
    const otherSpace = this.file && this.file.space !== enrolled.space;
    const names = enrolled.glosses.map(({ gloss }) => gloss);
    const unchanged = otherSpace ? [] : this.glosses.filter(({ gloss }) => !names.includes(gloss));
    this.unusable = false;
    this.#write({ space: enrolled.space, glosses: [...unchanged, ...enrolled.glosses] });
  }

  remove(gloss) {
    const remaining = this.glosses.filter((other) => other.gloss !== gloss);
    if (remaining.length) this.#write({ ...this.file, glosses: remaining });
    else this.clear();
  }

  clear() {
    this.file = null;
    this.unusable = false;
    this.storage.removeItem(this.key);
  }

  /** The text of enrolled.json. */
  get text() {
    return `${JSON.stringify(this.file)}\n`;
  }

  #write(file) {
    this.file = file; // set first: usable until the page is closed, even if storing fails
    this.storage.setItem(this.key, JSON.stringify(file));
  }

  #read() {
    try {
      const file = JSON.parse(this.storage.getItem(this.key));
      const isValid = (entry) => typeof entry?.gloss === "string" && Array.isArray(entry.prototype);
      return typeof file?.space === "string" && Array.isArray(file.glosses) && file.glosses.every(isValid) ? file : null;
    } catch {
      return null;
    }
  }
}

/**
 * Return advice on a new sign.
 *
 * `agreement` is the smallest cosine between two examples, around 0 for different signs. `similarity` is the cosine to the
 * nearest existing gloss. The thresholds are wide on purpose: the sign is kept in any case.
 *
 * @returns {string[]} keys of strings
 */
export function advice({ agreement, similarity }) {
  const examples = agreement < 0.35 ? "teach.differ" : agreement < 0.6 ? "teach.vary" : "teach.agree";
  return similarity > 0.6 ? [examples, "teach.alike"] : [examples, "teach.apart"];
}
