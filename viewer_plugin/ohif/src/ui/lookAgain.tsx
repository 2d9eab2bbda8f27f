// Look again: where the draft is no longer what the model made, where the model was unsure, and the model's own outlines.
import type { DraftedView, ModelView } from '../server/types';
import { Icon } from './icons';

export function LookAgain({ drafted, models, changed, unsure, isOutlined, isRunning, where, onChanged, onUnsure, onOutline, onDraftAgain }: {
  drafted: DraftedView | null; models: ModelView[]; changed: readonly number[] | null; unsure: readonly number[]; isOutlined: boolean; isRunning: boolean; where: string;
  onChanged: (by: 1 | -1) => void; onUnsure: (by: 1 | -1) => void; onOutline: () => void; onDraftAgain: (model: string) => void;
}) {
  if (!drafted) return null;
  const model = models.find(each => each.name === drafted.model);
  const isOlder = Boolean(model?.version && model.state === 'ready' && model.version !== drafted.version);
  return (
    <section aria-labelledby="as-look-again">
      <h2 id="as-look-again">Look again</h2>
      <div class="as-row as-tight">
        <Steps what="changed slice" keys="J" words={changed === null ? 'Changed' : `${changed.length} changed`} isUseless={changed?.length === 0} onStep={onChanged} />
        <Steps what="unsure slice" keys="U" words={unsure.length ? `${unsure.length} unsure` : 'Unsure'} isUseless={!unsure.length} onStep={onUnsure} why={unsure.length ? '' : 'This model does not say where it was unsure.'} />
      </div>
      <div class="as-row as-tight">
        <button data-cy="as-model-outline" aria-pressed={isOutlined} aria-keyshortcuts="M" title="The model’s draft as outlines over yours (M)" onClick={onOutline}>Model’s outlines<kbd aria-hidden="true">M</kbd></button>
        <span class="as-grow as-quiet" role="status" data-cy="as-where">{where}</span>
      </div>
      <p class="as-quiet" data-cy="as-drafted-by" title={model?.card ? `${model.card.purpose}\nNot for: ${model.card.not_for}\n${model.card.attribution}` : ''}>
        Drafted by {model?.card?.title ?? drafted.model} · version {drafted.version}{model?.card ? ` · ${model.card.licence}` : ''}
      </p>
      {isOlder && (
        <div class="as-row"><span class="as-grow">A better version has come.</span>
          <button data-cy="as-draft-again" disabled={isRunning} title={`Version ${model!.version}; locked segments stay, and undo brings this draft back`} onClick={() => onDraftAgain(drafted.model)}>Draft again</button></div>
      )}
    </section>
  );
}

function Steps({ what, keys, words, isUseless, why = '', onStep }: { what: string; keys: string; words: string; isUseless: boolean; why?: string; onStep: (by: 1 | -1) => void }) {
  const name = what.replace(' ', '-');
  return (
    <div class="as-steps" role="group" aria-label={`${what}s`} title={why}>
      <button class="as-plain" data-cy={`as-previous-${name}`} aria-label={`Previous ${what}`} aria-keyshortcuts={`Shift+${keys}`} title={`Previous ${what} (Shift+${keys})`} disabled={isUseless} onClick={() => onStep(-1)}><Icon of="back" /></button>
      <span>{words}</span>
      <button class="as-plain" data-cy={`as-next-${name}`} aria-label={`Next ${what}`} aria-keyshortcuts={keys} title={`Next ${what} (${keys})`} disabled={isUseless} onClick={() => onStep(1)}><Icon of="on" /></button>
    </div>
  );
}
