// The server's classical helpers on the active segment.
import { useState } from 'preact/hooks';
import type { Desk } from '../draft/desk';
import type { HelperForm } from '../server/types';

type Kind = HelperForm['kind'];
type Field = 'low' | 'high' | 'distance_mm' | 'volume_ml' | 'axis' | 'other' | 'combination';
const KINDS: { kind: Kind; label: string; fields: Field[] }[] = [
  { kind: 'smooth', label: 'Smooth', fields: ['distance_mm'] },
  { kind: 'fill-holes', label: 'Fill holes', fields: [] },
  { kind: 'islands', label: 'Keep the largest part', fields: [] },
  { kind: 'interpolate', label: 'Fill between slices', fields: ['axis'] },
  { kind: 'margin', label: 'Grow or shrink', fields: ['distance_mm'] },
  { kind: 'threshold', label: 'Threshold', fields: ['low', 'high'] },
  { kind: 'combine', label: 'Combine with another', fields: ['combination', 'other'] },
];
const LABELS: Partial<Record<Field, string>> = { low: 'From', high: 'To', distance_mm: 'mm', volume_ml: 'ml' };
const FIRST: Partial<Record<Field, number>> = { low: 100, high: 300, distance_mm: 2, volume_ml: 1, axis: 0 };

export function Helpers({ desk, active, segments, unit }: { desk: Desk; active: number; segments: { index: number; name: string }[]; unit: string }) {
  const [kind, setKind] = useState<Kind>('smooth');
  const [values, setValues] = useState<Partial<Record<Field, number>>>(FIRST);
  const [combination, setCombination] = useState<HelperForm['combination']>('union');
  const { fields } = KINDS.find(each => each.kind === kind)!;
  const others = segments.filter(each => each.index !== active);
  const put = (field: Field, value: number) => setValues({ ...values, [field]: value });
  const run = () => {
    const form: HelperForm = { kind, segment: active };
    for (const field of fields) {
      if (field === 'combination') form.combination = combination;
      else if (field === 'other') form.other = values.other ?? others[0]?.index ?? null;
      else form[field] = values[field] ?? FIRST[field] ?? 0;
    }
    void desk.help(form);
  };
  return (
    <section aria-labelledby="as-helpers">
      <h2 id="as-helpers">Help with the segment</h2>
      <div class="as-row">
        <select class="as-grow" aria-label="Helper" data-cy="as-helper" value={kind} onChange={event => setKind(event.currentTarget.value as Kind)}>
          {KINDS.map(each => <option key={each.kind} value={each.kind}>{each.label}</option>)}
        </select>
        <button data-cy="as-help" disabled={!active || (fields.includes('other') && !others.length)} onClick={run}>Do it</button>
      </div>
      {fields.length > 0 && (
        <div class="as-row">
          {fields.map(field => {
            if (field === 'axis') return <select key={field} aria-label="Between" value={values.axis ?? 0} onChange={event => put('axis', Number(event.currentTarget.value))}><option value={0}>slices as acquired</option><option value={1}>rows</option><option value={2}>columns</option></select>;
            if (field === 'combination') return <select key={field} aria-label="How" value={combination} onChange={event => setCombination(event.currentTarget.value as HelperForm['combination'])}><option value="union">add</option><option value="intersection">keep what both have</option><option value="difference">take away</option><option value="copy">copy</option></select>;
            if (field === 'other') return <select key={field} class="as-grow" aria-label="The other segment" value={values.other ?? others[0]?.index} onChange={event => put('other', Number(event.currentTarget.value))}>{others.map(each => <option key={each.index} value={each.index}>{each.name}</option>)}</select>;
            return <label key={field} class="as-row"><span class="as-quiet">{LABELS[field]}</span><input type="number" style={{ width: '5.5em' }} step="any" value={values[field]} onChange={event => put(field, Number(event.currentTarget.value))} />{field === 'low' || field === 'high' ? <span class="as-quiet">{unit}</span> : null}</label>;
          })}
        </div>
      )}
    </section>
  );
}
