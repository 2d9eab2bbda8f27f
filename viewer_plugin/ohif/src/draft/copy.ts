// What the server has of a draft, slice by slice, beside what the viewer shows: where they differ are edits not sent yet.
import { shapeOf, type Box, type Triple, type Voxels } from '../server/frame';

/** The voxels that the viewer shows; undefined for a slice that it has no image of. Written in place. */
export interface Shown { slice(k: number): Uint8Array | undefined }

export class DraftCopy {
  /** Slices that hold nothing but zeros are not kept: most of a volume is one of them. */
  private readonly slices: (Uint8Array | undefined)[];

  /** A number for each slice that grows when what the server has of it changes. */
  readonly changes: Uint32Array;

  /** How many voxels have each value, those of zero left aside. */
  private readonly found = new Float64Array(256);

  constructor(readonly shape: Triple) {
    this.slices = new Array(shape[0]);
    this.changes = new Uint32Array(shape[0]);
  }

  /**
   * Take over a box from the server, and return the slices that changed for the eye.
   * Voxels that were edited here and not sent yet stay as they were edited.
   */
  take(box: Box, voxels: Voxels, shown: Shown): number[] {
    const [nk, nj, ni] = shapeOf(box);
    const width = this.shape[2];
    const changed: number[] = [];
    for (let k = 0; k < nk; k++) {
      if (!this.slices[box.start[0] + k] && isZero(voxels, k * nj * ni, (k + 1) * nj * ni)) continue;
      const there = shown.slice(box.start[0] + k);
      const kept = this.writable(box.start[0] + k);
      let isChanged = false;
      let isOther = false;
      for (let j = 0; j < nj; j++) {
        let at = (box.start[1] + j) * width + box.start[2];
        for (let from = (k * nj + j) * ni; from < (k * nj + j + 1) * ni; from++, at++) {
          const value = voxels[from]!;
          if (there && there[at] === kept[at] && there[at] !== value) {
            there[at] = value;
            isChanged = true;
          }
          if (kept[at] === value) continue;
          this.found[kept[at]!]!--;
          this.found[value]!++;
          kept[at] = value;
          isOther = true;
        }
      }
      if (isChanged) changed.push(box.start[0] + k);
      if (isOther) this.changes[box.start[0] + k]!++;
    }
    return changed;
  }

  /** The smallest box that holds every voxel edited here, and its voxels; null where there is none. */
  edited(shown: Shown): { box: Box; voxels: Uint8Array } | null {
    const box = this.editedBox(shown);
    return box && { box, voxels: this.cut(box, shown) };
  }

  /** Put every voxel that `isWrong` says back to what the server has; return the slices. */
  revert(shown: Shown, isWrong: (was: number, is: number) => boolean): number[] {
    const changed: number[] = [];
    for (let k = 0; k < this.shape[0]; k++) {
      const there = shown.slice(k);
      if (!there || same(there, this.slices[k])) continue;
      const kept = this.slices[k];
      let isChanged = false;
      for (let at = 0; at < there.length; at++) {
        const was = kept?.[at] ?? 0;
        if (there[at] !== was && isWrong(was, there[at]!)) {
          there[at] = was;
          isChanged = true;
        }
      }
      if (isChanged) changed.push(k);
    }
    return changed;
  }

  /** Show what the server has in every slice: for a viewer that shows the draft anew. */
  showAll(shown: Shown): void {
    for (let k = 0; k < this.shape[0]; k++) {
      const kept = this.slices[k];
      if (kept) shown.slice(k)?.set(kept);
      else shown.slice(k)?.fill(0);
    }
  }

  /** How many voxels each segment has, as the server has them. */
  counts(): Map<number, number> {
    return new Map([...this.found].map((count, index) => [index, count] as const).filter(([index, count]) => index && count));
  }

  slice(k: number): Uint8Array | undefined {
    return this.slices[k];
  }

  private writable(k: number): Uint8Array {
    return (this.slices[k] ??= new Uint8Array(this.shape[1] * this.shape[2]));
  }

  private editedBox(shown: Shown): Box | null {
    const [nk, nj, ni] = this.shape;
    const start: Triple = [nk, nj, ni];
    const stop: Triple = [0, 0, 0];
    for (let k = 0; k < nk; k++) {
      const there = shown.slice(k);
      const kept = this.slices[k];
      if (!there || same(there, kept)) continue;
      start[0] = Math.min(start[0], k);
      stop[0] = k + 1;
      for (let at = 0; at < there.length; at++) {
        if (there[at] === (kept?.[at] ?? 0)) continue;
        const j = Math.floor(at / ni);
        const i = at - j * ni;
        if (j < start[1]) start[1] = j;
        if (j >= stop[1]) stop[1] = j + 1;
        if (i < start[2]) start[2] = i;
        if (i >= stop[2]) stop[2] = i + 1;
      }
    }
    return stop[0] ? { start, stop } : null;
  }

  private cut(box: Box, shown: Shown): Uint8Array {
    const [nk, nj, ni] = shapeOf(box);
    const cut = new Uint8Array(nk * nj * ni);
    for (let k = 0; k < nk; k++) {
      const from = shown.slice(box.start[0] + k) ?? this.slices[box.start[0] + k];
      if (!from) continue;
      for (let j = 0; j < nj; j++) {
        const at = (box.start[1] + j) * this.shape[2] + box.start[2];
        cut.set(from.subarray(at, at + ni), (k * nj + j) * ni);
      }
    }
    return cut;
  }
}

/** Whether two slices are equal; four voxels at a time, since a whole volume is gone through after every stroke. */
export function same(a: Uint8Array, b: Uint8Array | undefined): boolean {
  if (a.byteOffset % 4 || a.length % 4 || (b && b.byteOffset % 4)) {
    return b ? a.every((value, at) => value === b[at]) : a.every(value => value === 0);
  }
  const x = new Uint32Array(a.buffer, a.byteOffset, a.length / 4);
  const y = b && new Uint32Array(b.buffer, b.byteOffset, b.length / 4);
  for (let at = 0; at < x.length; at++) if (x[at] !== (y ? y[at] : 0)) return false;
  return true;
}

function isZero(voxels: Voxels, from: number, to: number): boolean {
  for (let at = from; at < to; at++) if (voxels[at]) return false;
  return true;
}
