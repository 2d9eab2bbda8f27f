// What went wrong, as a sentence for a person: the server's own, or ours where the server could not be asked.

export class Problem extends Error {
  constructor(readonly status: number, readonly kind: string, sentence: string, readonly remedy = '', readonly session: string | null = null) {
    super(sentence);
  }
}

/** No answer came: the server is down, the network is, or it took too long. */
export const UNREACHABLE = 0;
const IS_KEPT = 'Your edits are kept here and sent as soon as it answers.';

/** What to do where the server says none of it. */
const REMEDIES: Record<number, string> = {
  401: 'Sign in again; your edits stay here meanwhile.',
  403: 'Ask an administrator for the role that this needs.',
  413: 'It is more than the server lets in; ask an administrator to allow more.',
  429: 'The server has much to do; it is tried again in a moment.',
  500: `Something failed in the server; an administrator finds it in its log. ${IS_KEPT}`,
  502: `What stands before the server does not reach it. ${IS_KEPT}`,
  503: `The server starts, stops or is full. ${IS_KEPT}`,
  504: `What stands before the server does not reach it. ${IS_KEPT}`,
  507: 'The disk of the server is full; an administrator has to make room. Your edits are kept here meanwhile.',
};

export async function problemOf(response: Response): Promise<Problem> {
  let body: Record<string, unknown> = {};
  try {
    if (response.headers.get('content-type')?.includes('json')) body = await response.json();
  } catch { /* a proxy's page: the status says enough */ }
  const text = (name: string) => (typeof body[name] === 'string' ? body[name] as string : '');
  const detail = text('detail') || text('title') || `The server answered ${response.status}.`;
  return new Problem(response.status, text('type').split(':').at(-1) ?? '', sentence(detail), sentence(text('remedy') || REMEDIES[response.status] || ''), text('session') || null);
}

/** Read an answer; what cannot be read is a problem too: a proxy's page, or an answer that was cut off. */
export async function answerOf<T>(response: Response, read: (response: Response) => Promise<T>): Promise<T> {
  try {
    return await read(response);
  } catch (error) {
    if (asProblem(error).status === UNREACHABLE) throw error;
    const reason = error instanceof Error ? error.message : String(error);
    throw new Problem(UNREACHABLE, 'unreadable', `What came back is no answer of the server (${reason}).`, `Something between here and the server changes or cuts off what it says. ${IS_KEPT}`);
  }
}

export function slow(seconds: number): Problem {
  return new Problem(UNREACHABLE, 'slow', `The server has not answered for ${seconds} seconds.`, IS_KEPT);
}

export function asProblem(error: unknown): Problem {
  if (error instanceof Problem) return error;
  if (error instanceof TypeError && /fetch|network|load failed|cancelled/i.test(error.message)) {
    return new Problem(UNREACHABLE, 'unreachable', 'The server cannot be reached.', IS_KEPT);
  }
  if (error instanceof DOMException && (error.name === 'AbortError' || error.name === 'TimeoutError')) return slow(60);
  return new Problem(-1, 'viewer', error instanceof Error ? error.message : String(error), 'Load the page again; what was saved is on the server.');
}

/** With a capital and a full stop: what is shown is a sentence, also where it was written as part of one. */
function sentence(given: string): string {
  const text = given.trim();
  // a name is left as it is
  const begun = /^[a-z']+\s/.test(text) ? text[0]!.toUpperCase() + text.slice(1) : text;
  return !begun || /[.!?)]$/.test(begun) ? begun : `${begun}.`;
}
