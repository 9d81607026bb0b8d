import { Editor } from "./editor.js";
import { tooMany } from "./tracker.js";
import { Told } from "./told.js";

/**
 * What a person paints: the objects, the tool, and the masks of the frame that is shown.
 *
 * most: objects that the graphs follow. changed(): is told when what is given has changed.
 */
export class Painting {
  constructor({ source, project, view, most, changed }) {
    Object.assign(this, { source, project, view, most, changed });
    this.objects = [1];
    this.selected = 1;
    this.tool = "brush";
    this.diameter = 20; // px of the video
    this.number = 0;
    this._editor = null;
    this._from = null; // where the pointer was
    for (const [number, ids] of source.given) this._take(number, ids);
    this.edited = false;
  }

  /** Take masks that come with a clip, of as many objects as there are slots for. */
  _take(number, ids) {
    const kept = ids.map((id) => (id <= this.most ? id : 0));
    this.project.give(number, kept);
    for (const id of new Set(kept)) if (id && !this.objects.includes(id)) this.objects.push(id);
    this.objects.sort((a, b) => a - b);
  }

  /** Show the masks of another frame, or those that have become known of this one. */
  show(number) {
    this.number = number;
    this._editor = null;
    this._from = null;
    this.draw();
  }

  /** The masks of the frame that is shown, or null. */
  get ids() {
    if (this._editor) return this._editor.ids;
    return this.project.mask(this.number) ?? this.project.given(this.number)?.ids ?? null;
  }

  draw(box = null) {
    this.view.ids(this.ids, box);
  }

  /** Say whether an object has ended before or in the frame that is shown. */
  ended(id) {
    if (this.project.alive(this.number).includes(id)) return false;
    return this.project.numbers.some((n) => n <= this.number && this.project.names(n, id));
  }

  /** Begin another object. Throws a Told where the graphs have no slot for it. */
  add() {
    const there = this.objects.filter((id) => !this.ended(id));
    if (there.length >= this.most) throw new Told(tooMany(this.most));
    let id = 1;
    while (this.objects.includes(id)) id += 1;
    this.objects.push(id);
    this.selected = id;
    return id;
  }

  /** Take the selected object away, from the frame that is shown on. */
  remove() {
    const id = this.selected;
    const { project, number } = this;
    this._edit((editor) => editor.clear(id), id);
    for (const later of project.numbers.filter((n) => n > number)) {
      const { ids, gone } = project.given(later);
      project.give(later, ids.map((other) => (other === id ? 0 : other)), gone);
    }
    if (!project.numbers.some((n) => project.names(n, id)) && this.objects.length > 1) {
      this.objects = this.objects.filter((other) => other !== id);
      [this.selected] = this.objects;
    }
    this._done();
  }

  /** Take every object's pixels away. */
  clear() {
    this._edit((editor) => editor.clear());
    this._done();
  }

  /** Take the last change of this frame back; say whether there was one. */
  undo() {
    if (!this._editor?.undo()) return false;
    this._done();
    return true;
  }

  /** Fill a box with the selected object. */
  box(from, to) {
    this._edit((editor) => editor.box(from, to, this.selected));
    this._done();
  }

  /** Begin to paint at a point of the video. */
  down(point) {
    this._from = point;
    if (this.tool === "box") return;
    this._edit((editor) => editor.stroke(point, point, this.diameter / 2, this._id));
    this.draw();
  }

  /** Go on painting. */
  move(point) {
    if (!this._from) return;
    if (this.tool === "box") {
      this.draw({ from: this._from, to: point });
      return;
    }
    this._editor.stroke(this._from, point, this.diameter / 2, this._id);
    this._from = point;
    this.draw();
  }

  /** End painting. */
  up(point) {
    if (!this._from) return;
    const from = this._from;
    this._from = null;
    if (this.tool === "box") this.box(from, point);
    else this._done();
  }

  get _id() {
    return this.tool === "eraser" ? 0 : this.selected;
  }

  _edit(change, ending = null) {
    if (!this._editor) {
      const given = this.project.given(this.number);
      const touched = given ? [...new Set(given.ids), ...given.gone].filter((id) => id) : [];
      this._editor = new Editor(this.source.width, this.source.height, this.ids, touched);
    }
    this._editor.mark();
    change(this._editor);
    if (ending !== null) this._editor.touched.add(ending); // though it shows in no pixel here
  }

  /** Give the network what is painted in this frame. */
  _done() {
    const { ids, gone } = this._editor.given();
    const before = this.project.alive(this.number - 1);
    this.project.give(this.number, ids, gone.filter((id) => before.includes(id)));
    this.edited = true;
    this.draw();
    this.changed();
  }
}
