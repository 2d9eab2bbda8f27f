// The longest diameter of each segment within one slice as acquired: between the two points of its edge that lie farthest
// apart, as a calliper on the image would measure it. Edges are the middles of the sides of the outermost pixels.

export interface Longest { mm: number; k: number }
/** The two sides of a pixel: along a column (j) and along a row (i). */
export interface Pixel { jMm: number; iMm: number }

type Point = readonly [j: number, i: number];
const VALUES = 256;

/** The longest diameter (mm) of each value but 0 in a slice, j by j. */
export function diametersOf(voxels: Uint8Array, columns: number, pixel: Pixel): Map<number, number> {
  return new Map([...rowEnds(voxels, columns)].map(([value, points]) => [value, farthest(hull(points), pixel)]));
}

/** The first and last voxel of each value in each row, in order: whatever is extreme is among them. */
function rowEnds(voxels: Uint8Array, columns: number): Map<number, Point[]> {
  const found = new Map<number, Point[]>();
  const first = new Int32Array(VALUES);
  const last = new Int32Array(VALUES);
  const row = new Int32Array(VALUES);
  const here: number[] = [];
  for (let at = 0, j = 0; at < voxels.length; at += columns, j++) {
    here.length = 0;
    for (let i = 0; i < columns; i++) {
      const value = voxels[at + i]!;
      if (!value) continue;
      if (row[value] !== j + 1) { row[value] = j + 1; first[value] = i; here.push(value); }
      last[value] = i;
    }
    for (const value of here) {
      let points = found.get(value);
      if (!points) found.set(value, points = []);
      points.push([j, first[value]!]);
      if (last[value] !== first[value]) points.push([j, last[value]!]);
    }
  }
  return found;
}

/** The corners of the convex hull of points in order (monotone chain). Scaling the axes does not change which they are. */
function hull(points: readonly Point[]): Point[] {
  if (points.length < 3) return [...points];
  const half = (ordered: readonly Point[]): Point[] => {
    const chain: Point[] = [];
    for (const point of ordered) {
      while (chain.length > 1 && turn(chain.at(-2)!, chain.at(-1)!, point) <= 0) chain.pop();
      chain.push(point);
    }
    chain.pop();
    return chain;
  };
  return [...half(points), ...half([...points].reverse())];
}

function turn(a: Point, b: Point, c: Point): number {
  return (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0]);
}

function farthest(corners: readonly Point[], { jMm, iMm }: Pixel): number {
  let most = Math.max(jMm, iMm) ** 2;
  for (let a = 0; a < corners.length; a++) {
    for (let b = a + 1; b < corners.length; b++) {
      const [j, i] = [Math.abs(corners[a]![0] - corners[b]![0]), Math.abs(corners[a]![1] - corners[b]![1])];
      // half a pixel more on either side, along a row or along a column
      most = Math.max(most, ((j + 1) * jMm) ** 2 + (i * iMm) ** 2, (j * jMm) ** 2 + ((i + 1) * iMm) ** 2);
    }
  }
  return Math.sqrt(most);
}

/** Slices with a number that grows with every change of theirs. */
export interface Watched { readonly changes: ArrayLike<number>; slice(k: number): Uint8Array | undefined }

/** The longest diameters over all slices, brought up to date a few slices at a time. */
export class Diameters {
  private readonly seen: Int32Array;
  private readonly bySlice: (Map<number, number> | undefined)[] = [];
  private found = new Map<number, Longest>();

  constructor(private readonly copy: Watched, private readonly columns: number, private readonly pixel: Pixel) {
    this.seen = new Int32Array(copy.changes.length);
  }

  /** Measure slices that changed while `mayGoOn`; true when none is left. */
  work(mayGoOn: () => boolean): boolean {
    let isChanged = false;
    let k = 0;
    for (; k < this.seen.length && mayGoOn(); k++) {
      if (this.seen[k] === this.copy.changes[k]) continue;
      this.seen[k] = this.copy.changes[k]!;
      const voxels = this.copy.slice(k);
      this.bySlice[k] = voxels && diametersOf(voxels, this.columns, this.pixel);
      isChanged = true;
    }
    if (isChanged) this.found = this.summed();
    return k === this.seen.length;
  }

  /** By segment: how long, and in which slice. */
  longest(): ReadonlyMap<number, Longest> {
    return this.found;
  }

  private summed(): Map<number, Longest> {
    const found = new Map<number, Longest>();
    this.bySlice.forEach((lengths, k) => lengths?.forEach((mm, value) => {
      if (mm > (found.get(value)?.mm ?? 0)) found.set(value, { mm, k });
    }));
    return found;
  }
}
