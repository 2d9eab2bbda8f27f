import { expect, test } from 'vitest';
import { Client } from '../src/server/client';
import { asProblem, problemOf, UNREACHABLE } from '../src/server/problem';

const json = (status: number, body: object) => new Response(JSON.stringify(body), { status, headers: { 'content-type': 'application/problem+json' } });

test('what the server says is shown as sentences, and names stay as they are', async () => {
  const said = await problemOf(json(409, { type: 'urn:annotate-server:problem:case-taken', title: 'Taken', detail: 'the case is open', remedy: 'ask ann', session: 's1' }));
  expect([said.message, said.remedy, said.kind, said.session]).toEqual(['The case is open.', 'Ask ann.', 'case-taken', 's1']);
  expect((await problemOf(json(404, { detail: 'demo_ct is gone?' }))).message).toBe('demo_ct is gone?');
});

test.each([[502, 'text/html'], [503, 'text/plain'], [507, 'application/problem+json'], [401, 'text/html']])('%i says what to do though the answer does not', async (status, type) => {
  const problem = await problemOf(new Response('<html>', { status, headers: { 'content-type': type } }));
  expect(problem.message).toBe(`The server answered ${status}.`);
  expect(problem.remedy).toMatch(/edits (are kept|stay) here/);
});

test.each([new TypeError('Failed to fetch'), new TypeError('NetworkError when attempting to fetch resource.'), new TypeError('Load failed'), new DOMException('', 'TimeoutError')])('a server that is away is one that may come back (%s)', error => {
  expect(asProblem(error)).toMatchObject({ status: UNREACHABLE, remedy: expect.stringContaining('kept here') });
});

test('an answer of any route that cannot be read is a problem, not a crash', async () => {
  const client = new Client(async () => new Response('<html>'), () => 'ann');
  for (const asked of [client.me(), client.labelmap('s'), client.undo('s'), client.jobs()]) {
    await expect(asked).rejects.toMatchObject({ status: UNREACHABLE, kind: 'unreadable' });
  }
});

test('the server’s own problem is told apart from an answer that cannot be read', async () => {
  const client = new Client(async () => json(410, { detail: 'it ran out' }), () => 'ann');
  await expect(client.heartbeat('s', 1)).rejects.toMatchObject({ status: 410, message: 'It ran out.' });
});
