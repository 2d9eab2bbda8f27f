// What to do while the server does not answer: try again, less and less often, and say so when it is back.
import { UNREACHABLE, type Problem } from '../server/problem';

const RETRY_MS = 3000;
const MOST_DOUBLINGS = 3;

export class Connection {
  private timer: ReturnType<typeof setTimeout> | undefined;
  private failures = 0;
  private missed = '';
  private isWaiting = false;
  private dismissed = '';

  /** `again` sends what waits, or asks for a sign of life. */
  constructor(private readonly again: () => void) {}

  /** Something failed (`doing`, a word for a person); where it may pass it is tried again. Returns the problem to show, or null for one that was closed. */
  failed(problem: Problem, doing: string, hasUnsent: boolean): Problem | null {
    this.isWaiting = mayPass(problem, hasUnsent);
    if (!this.isWaiting) return problem;
    if (problem.status === UNREACHABLE && doing) this.missed = doing;
    clearTimeout(this.timer);
    this.timer = setTimeout(this.again, RETRY_MS * 2 ** Math.min(this.failures++, MOST_DOUBLINGS));
    return !doing && problem.message === this.dismissed ? null : problem;
  }

  /** Something succeeded. Returns what to say where something else had failed that passed; null where nothing had. */
  reached(): { notes: string[] } | null {
    const { isWaiting, missed } = this;
    [this.isWaiting, this.missed, this.dismissed, this.failures] = [false, '', '', 0];
    clearTimeout(this.timer);
    if (!isWaiting) return null;
    return { notes: missed ? [`The server answers again. See whether “${missed}” was done, and do it again if not.`] : [] };
  }

  /** Somebody closed a problem: it does not come up with every further try. */
  dismiss(problem: Problem | null): void {
    this.dismissed = problem?.message ?? '';
  }

  close(): void {
    clearTimeout(this.timer);
  }
}

/** Whether it may be over in a moment: the server is away or busy, somebody signs in again in another window, or edits wait for it to recover. */
function mayPass({ status }: Problem, hasUnsent: boolean): boolean {
  return status === UNREACHABLE || status === 401 || status === 429 || (hasUnsent && status >= 500);
}
