// Submit, leave, and the second look at what somebody else submitted.
import { useEffect, useState } from 'preact/hooks';
import type { DeskState } from '../draft/desk';
import type { Client } from '../server/client';
import { asProblem, type Problem } from '../server/problem';
import type { LabelView } from '../server/types';
import { Icon } from './icons';
import { ProblemBox } from './problem';
import { ThemeButton } from './themeButton';

export function Finish({ title, state, onUndo, onRedo, onSubmit, onLeave, onHelp }: {
  title: string; state: DeskState; onUndo: () => void; onRedo: () => void; onSubmit: () => void; onLeave: () => void; onHelp: () => void;
}) {
  const { doing, isReachable, hasUnsent } = state;
  return (
    <section class="as-bar" aria-label="This case">
      <div class="as-row as-tight">
        <h3 class="as-grow" data-cy="as-open-case" title={title}>{title}</h3>
        <button class="as-plain" aria-label="Undo" data-cy="as-undo" disabled={!state.canUndo && !hasUnsent} title="Undo (Ctrl+Z)" onClick={onUndo}><Icon of="undo" /></button>
        <button class="as-plain" aria-label="Redo" data-cy="as-redo" disabled={!state.canRedo} title="Redo (Ctrl+Shift+Z)" onClick={onRedo}><Icon of="redo" /></button>
        <ThemeButton />
        <button class="as-plain" aria-label="Keys" title="Keys (?)" onClick={onHelp}><Icon of="keys" /></button>
      </div>
      <div class="as-row as-tight">
        <span class="as-dot" data-state={!isReachable ? 'away' : doing || hasUnsent ? 'busy' : 'still'} aria-hidden="true" />
        <span class="as-grow as-quiet" role="status" data-cy="as-status">{doing || (!isReachable ? 'Not connected' : hasUnsent ? 'Saving…' : 'Saved')}{doing && <Elapsed key={state.since} since={state.since} />}</span>
        <button data-cy="as-leave" title="The draft is kept for later, and the case is free for others" onClick={onLeave}>Leave</button>
        <button class="as-main" data-cy="as-submit" disabled={doing !== ''} title="Submit (Ctrl+Enter)" onClick={onSubmit}>Submit</button>
      </div>
    </section>
  );
}

/** What a label is to speak about: a model learns nothing from the slices that nobody looked at. */
export function LookedAt({ isPartial, onPartial }: { isPartial: boolean; onPartial: (value: boolean) => void }) {
  return (
    <section aria-labelledby="as-looked-at">
      <h2 id="as-looked-at">Looked at</h2>
      <label class="as-row" title="The label then says nothing about the other slices: they are not learned from as background">
        <input type="checkbox" data-cy="as-partial" checked={isPartial} onChange={event => onPartial(event.currentTarget.checked)} /> Only the slices in which something is drawn
      </label>
    </section>
  );
}

const WORTH_SAYING_S = 3;

/** How long something takes already: whoever waits sees that it goes on. */
function Elapsed({ since }: { since: number }) {
  const [now, setNow] = useState(since);
  useEffect(() => {
    const timer = setInterval(() => setNow(Date.now()), 1000);
    return () => clearInterval(timer);
  }, []);
  const seconds = Math.round((now - since) / 1000);
  return <span aria-hidden="true">{seconds >= WORTH_SAYING_S ? ` ${seconds} s` : ''}</span>;
}

export function Review({ client, label, onDone }: { client: Client; label: LabelView; onDone: () => void }) {
  const [comment, setComment] = useState('');
  const [problem, setProblem] = useState<Problem | null>(null);
  const say = async (verdict: 'approved' | 'returned') => {
    try { await client.review(label.id, verdict, comment); onDone(); } catch (error) { setProblem(asProblem(error)); }
  };
  return (
    <section aria-labelledby="as-review">
      <h2 id="as-review">Review</h2>
      <p>{label.author} submitted a label of this case. It is what the case opens with; look at it, then say:</p>
      <textarea aria-label="Comment" placeholder="Comment; needed to return it" maxLength={2000} value={comment} onInput={event => setComment(event.currentTarget.value)} />
      <div class="as-row">
        <button class="as-main" data-cy="as-approve" onClick={() => say('approved')}>Approve</button>
        <button data-cy="as-return" disabled={!comment.trim()} onClick={() => say('returned')}>Return</button>
      </div>
      <ProblemBox problem={problem} onClose={() => setProblem(null)} />
    </section>
  );
}

export function Keys({ keys, onClose }: { keys: readonly { label: string; what: string }[]; onClose: () => void }) {
  return (
    <section role="dialog" aria-label="Keys" data-cy="as-keys">
      <div class="as-row"><h2 class="as-grow">Keys</h2><button onClick={onClose}>Close</button></div>
      <table><tbody>{keys.map(key => <tr key={key.label}><td><kbd>{key.label}</kbd></td><td>{key.what}</td></tr>)}</tbody></table>
      <p class="as-quiet">Ctrl or Alt with the mouse turns the sign of one prompt round.</p>
    </section>
  );
}
