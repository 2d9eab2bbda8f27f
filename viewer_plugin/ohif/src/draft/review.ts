// Where to look again: slices in which the draft is no longer what the model made, and slices that it was unsure of.
import { same } from './copy';
import type { Watched } from './diameter';

type Index = [k: number, j: number, i: number];
const SURE_SHARE = 2 / 3;

/** Which slices differ between the draft and what the model made; compared again only where the draft changed. */
export class Differences {
  private readonly seen: Int32Array;
  private readonly differs: boolean[];

  constructor(private readonly now: Watched, private readonly made: { slice(k: number): Uint8Array | undefined }) {
    this.seen = new Int32Array(now.changes.length).fill(-1);
    this.differs = new Array(now.changes.length).fill(false);
  }

  /** The slices that differ, in order. */
  slices(): number[] {
    const found: number[] = [];
    for (let k = 0; k < this.seen.length; k++) {
      if (this.seen[k] !== this.now.changes[k]) {
        this.seen[k] = this.now.changes[k]!;
        this.differs[k] = !equal(this.now.slice(k), this.made.slice(k));
      }
      if (this.differs[k]) found.push(k);
    }
    return found;
  }

  /** A voxel in the middle of what differs in a slice; null where nothing does. */
  middle(k: number, columns: number): Index | null {
    return middleOf(this.now.slice(k), this.made.slice(k), k, columns);
  }
}

/** A voxel in the middle of where two slices k differ, and that differs itself; null where none does. */
export function middleOf(one: Uint8Array | undefined, other: Uint8Array | undefined, k: number, columns: number): Index | null {
  const found: number[] = [];
  for (let at = 0; at < (one ?? other ?? []).length; at++) if ((one?.[at] ?? 0) !== (other?.[at] ?? 0)) found.push(at);
  if (!found.length) return null;
  const [j, i] = [mean(found.map(at => Math.floor(at / columns))), mean(found.map(at => at % columns))];
  const off = (at: number) => Math.hypot(Math.floor(at / columns) - j, at % columns - i);
  const nearest = found.reduce((best, at) => (off(at) < off(best) ? at : best));
  return [k, Math.floor(nearest / columns), nearest % columns];
}

/** The slices that a model was least sure of: the peaks among the least sure third. */
export function unsureSlices(unsure: readonly number[]): number[] {
  const told = unsure.filter(each => each > 0).sort((a, b) => a - b);
  const least = told[Math.floor(told.length * SURE_SHARE)];
  const usual = told[told.length >> 1];
  if (least === undefined || usual === undefined) return [];
  const found: number[] = [];
  let peak = -1;
  for (let k = 0; k <= unsure.length; k++) {
    const value = unsure[k] ?? 0;
    // a model that is as unsure everywhere has no peaks
    if (value >= least && value > usual) {
      if (peak < 0 || value > unsure[peak]!) peak = k;
    } else if (peak >= 0) {
      found.push(peak);
      peak = -1;
    }
  }
  return found;
}

/** The next of some slices after (`by` 1) or before (-1) one, round the end; null where there is none. */
export function nextSlice(slices: readonly number[], from: number, by: 1 | -1): number | null {
  if (by > 0) return slices.find(k => k > from) ?? slices[0] ?? null;
  return slices.findLast(k => k < from) ?? slices.at(-1) ?? null;
}

function equal(a: Uint8Array | undefined, b: Uint8Array | undefined): boolean {
  return a === undefined ? b === undefined || same(b, undefined) : same(a, b);
}

function mean(numbers: readonly number[]): number {
  return numbers.reduce((sum, each) => sum + each, 0) / numbers.length;
}
