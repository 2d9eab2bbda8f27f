// What the OHIF plugin's client uses of axios, over fetch: the same requests, and errors where the status is no 2xx.

async function asked(method, url, data, settings = {}) {
  const headers = { accept: 'application/json, text/plain, */*' };
  for (const [name, value] of Object.entries(settings.headers ?? {})) {
    headers[name] = String(value);
  }
  let body;
  if (data instanceof FormData) {
    body = data;
  } else if (data !== undefined && data !== null) {
    headers['content-type'] = 'application/json';
    body = JSON.stringify(data);
  }
  const response = await fetch(url, { method, headers, body });
  const content = await response.arrayBuffer();
  const text = new TextDecoder().decode(content);
  let answer = content;
  if (settings.responseType !== 'arraybuffer') {
    try {
      answer = JSON.parse(text);
    } catch {
      answer = text;
    }
  }
  if (!response.ok) {
    throw Object.assign(new Error(`Request failed with status code ${response.status}`), {
      response: { status: response.status, data: answer },
    });
  }
  return { status: response.status, data: answer, headers: Object.fromEntries(response.headers) };
}

export default {
  get: (url, settings) => asked('GET', url, undefined, settings),
  delete: (url, settings) => asked('DELETE', url, undefined, settings),
  post: (url, data, settings) => asked('POST', url, data, settings),
  put: (url, data, settings) => asked('PUT', url, data, settings),
};
