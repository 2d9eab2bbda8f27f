// The server's classical helpers: what each is called, which numbers it takes, and the order that is sent for it.
import type { HelperForm } from '../server/types';

export type Kind = HelperForm['kind'];
export type Numbered = 'low' | 'high' | 'distance_mm' | 'volume_ml';
export type Field = Numbered | 'range' | 'axis' | 'by_slice' | 'rule' | 'combination' | 'other';

/** What a person set; what a kind does not take is left out of its order. */
export interface Settings {
  low: number;
  high: number;
  volume_ml: number;
  /** A distance means something else to each kind, so that each has its own. */
  distance_mm: Partial<Record<Kind, number>>;
  isRangeGiven: boolean;
  axis: 0 | 1 | 2;
  by_slice: boolean;
  rule: NonNullable<HelperForm['rule']>;
  combination: NonNullable<HelperForm['combination']>;
  other: number | null;
}

export const FIRST: Settings = {
  low: 100, high: 300, volume_ml: 1, distance_mm: { smooth: 1.5, margin: 2, 'geodesic-fill': 15 }, isRangeGiven: false,
  axis: 0, by_slice: false, rule: 'largest', combination: 'union', other: null,
};

export const KINDS: readonly { kind: Kind; label: string; what: string; fields: readonly Field[] }[] = [
  { kind: 'smooth', label: 'Smooth', what: 'Smooths the border; larger numbers take away more.', fields: ['distance_mm'] },
  { kind: 'interpolate', label: 'Fill between slices', what: 'Draw it on some slices; those between them are filled.', fields: ['axis'] },
  { kind: 'fill-holes', label: 'Fill holes', what: 'Adds what the segment encloses.', fields: ['by_slice'] },
  { kind: 'islands', label: 'Remove islands', what: 'Keeps only parts that hang together.', fields: ['rule', 'volume_ml'] },
  { kind: 'margin', label: 'Grow or shrink', what: 'By a margin on all sides; below 0 it shrinks.', fields: ['distance_mm'] },
  { kind: 'region-growing', label: 'Grow from a place', what: 'Adds what hangs together with the place and is as bright.', fields: ['range', 'low', 'high'] },
  { kind: 'geodesic-fill', label: 'Fill up to edges', what: 'Adds what is near the place, up to edges in the image.', fields: ['distance_mm'] },
  { kind: 'threshold', label: 'Threshold', what: 'Makes the segment all that is as bright, and no other segment’s.', fields: ['low', 'high'] },
  { kind: 'combine', label: 'Combine with another', what: 'Adds, takes away or copies another segment.', fields: ['combination', 'other'] },
];

/** Whether a helper begins at a place. */
export function needsPlace(kind: Kind, { rule }: Settings): boolean {
  return kind === 'region-growing' || kind === 'geodesic-fill' || (kind === 'islands' && rule === 'at-seed');
}

/** The fields that are of use, as things are set. */
export function fieldsOf(kind: Kind, settings: Settings): Field[] {
  return KINDS.find(each => each.kind === kind)!.fields.filter(field => {
    if (field === 'volume_ml') return settings.rule === 'minimum-size';
    if (kind === 'region-growing' && (field === 'low' || field === 'high')) return settings.isRangeGiven;
    return true;
  });
}

/** Why a helper cannot be carried out, as a sentence; empty where it can. */
export function lacking(kind: Kind, settings: Settings, at: { segment: number; place: readonly number[] | null; others: readonly number[] }): string {
  if (!at.segment) return 'Choose a segment first.';
  if (needsPlace(kind, settings) && !at.place) return 'Click the place in an image first.';
  if (kind === 'combine' && !at.others.length) return 'There is no other segment.';
  const fields = fieldsOf(kind, settings);
  if (fields.includes('low') && !(settings.low <= settings.high)) return 'The range ends before it begins.';
  const distance = settings.distance_mm[kind];
  if (fields.includes('distance_mm') && (distance === undefined || !Number.isFinite(distance) || (kind === 'margin' ? distance === 0 : distance <= 0))) return 'Say how many mm.';
  return fields.includes('volume_ml') && !(settings.volume_ml > 0) ? 'Say how many ml.' : '';
}

/** What is sent. */
export function helperOrder(kind: Kind, settings: Settings, at: { segment: number; place: readonly number[] | null; others: readonly number[] }): HelperForm {
  const form: HelperForm = { kind, segment: at.segment };
  for (const field of fieldsOf(kind, settings)) {
    if (field === 'low' || field === 'high' || field === 'volume_ml') form[field] = settings[field];
    if (field === 'distance_mm') form.distance_mm = settings.distance_mm[kind] ?? null;
    if (field === 'axis') form.axis = settings.axis;
    if (field === 'by_slice') form.by_slice = settings.by_slice;
    if (field === 'rule') form.rule = settings.rule;
    if (field === 'combination') form.combination = settings.combination;
    if (field === 'other') form.other = at.others.includes(settings.other ?? 0) ? settings.other : at.others[0] ?? null;
  }
  if (needsPlace(kind, settings) && at.place) form.seed_mm = [...at.place] as [number, number, number];
  return form;
}
