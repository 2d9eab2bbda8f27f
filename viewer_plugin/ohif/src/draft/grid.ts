// The case's grid beside the viewer's images: slice k is found by its identifier, and its place has to agree.
import { Problem } from '../server/problem';
import type { CaseView } from '../server/types';

type Vector = readonly number[];
/** Where an image lies: what DICOM's plane module says of it, LPS mm. */
export interface Plane { position: Vector; row: Vector; column: Vector; rowSpacing: number; columnSpacing: number; rows: number; columns: number }
export interface Image { id: string; sop: string; frame: number; plane: Plane }

const MOST_TURN = 1e-3;
const MOST_OFF = 0.02; // of the smallest side of a voxel: positions are written with few digits

/** The image of each slice k, in order. Raises a Problem where the viewer's images are not the case's. */
export function imagesByK(found: CaseView, images: readonly Image[]): string[] {
  const grid = found.geometry;
  if (!grid) throw new Problem(-1, 'viewer', 'The volume of this case was not read yet.', 'Open the case again in a moment.');
  if (!found.instances?.length || found.instances.some(slice => slice.shift_ji?.some(shift => shift !== 0))) {
    throw new Problem(-1, 'viewer', 'The grid of this case is not that of its images (a tilted gantry, or slices that do not fit together).',
      'It cannot be corrected in this viewer.');
  }
  const byName = new Map(images.map(image => [`${image.sop} ${image.frame}`, image]));
  const sought = found.instances.map(slice => ({ k: slice.k, image: byName.get(`${slice.sop_instance_uid} ${slice.frame}`) }));
  const missing = sought.filter(each => !each.image).length;
  if (missing) throw new Problem(-1, 'viewer', `${missing} of ${sought.length} slices of the case are not in the viewer.`, 'Load the page again.');
  const ordered: string[] = [];
  for (const { k, image } of sought) {
    if (!fits(grid, k, image!.plane)) {
      throw new Problem(-1, 'viewer', `Slice ${k + 1} lies elsewhere in the viewer than on the server.`, 'Please report this; nothing was changed.');
    }
    ordered[k] = image!.id;
  }
  return ordered;
}

export function fits(grid: NonNullable<CaseView['geometry']>, k: number, plane: Plane): boolean {
  const [dk, dj, di] = grid.direction as unknown as [Vector, Vector, Vector];
  const [sk, sj, si] = grid.spacing_mm as [number, number, number];
  const [, nj, ni] = grid.shape;
  const off = Math.hypot(...[0, 1, 2].map(axis => plane.position[axis]! - grid.origin_mm[axis]! - k * sk * dk[axis]!));
  return plane.rows === nj && plane.columns === ni && off <= Math.max(0.01, MOST_OFF * Math.min(sk, sj, si) * (1 + k / 10))
    && near(plane.row, di) && near(plane.column, dj)
    && Math.abs(plane.columnSpacing - si) <= MOST_OFF * si && Math.abs(plane.rowSpacing - sj) <= MOST_OFF * sj;
}

/** The voxel (k, j, i) that a place (LPS mm) lies in; null outside. */
export function voxelAt(grid: NonNullable<CaseView['geometry']>, place: Vector): [number, number, number] | null {
  const index = [0, 1, 2].map(axis => {
    const direction = grid.direction[axis]!;
    const along = [0, 1, 2].reduce((sum, n) => sum + (place[n]! - grid.origin_mm[n]!) * direction[n]!, 0);
    return Math.round(along / grid.spacing_mm[axis]!);
  }) as [number, number, number];
  return index.every((n, axis) => n >= 0 && n < grid.shape[axis]!) ? index : null;
}

/** The centre of a voxel (k, j, i), LPS mm. */
export function placeOf(grid: NonNullable<CaseView['geometry']>, index: Vector): [number, number, number] {
  return [0, 1, 2].map(n => [0, 1, 2].reduce(
    (sum, axis) => sum + index[axis]! * grid.spacing_mm[axis]! * grid.direction[axis]![n]!, grid.origin_mm[n]!)) as [number, number, number];
}

function near(a: Vector, b: Vector): boolean {
  return [0, 1, 2].every(n => Math.abs(a[n]! - b[n]!) <= MOST_TURN);
}
