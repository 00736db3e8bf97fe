"""Look at every page of _docs/ in headless Chromium, in light and dark: `python .ci/look.py [--shots FOLDER] [--only GLOB]`

Fails on a console error, a failed request, a request to another machine, a blank or wrongly lit page, text too faint to read, a
page wider than the window (1350 px and a phone's 390 px), a start page whose map must be scrolled to, a search that finds
nothing, from http:// and from file://, and a toggle that does not. Screenshots go to FOLDER. The last line is `N passed, N failed`."""
import argparse, base64, functools, io, json, shutil, subprocess, sys, tempfile, threading, time, urllib.request
from fnmatch import fnmatch
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
import numpy as np, websocket
from PIL import Image

root = Path(__file__).resolve().parent.parent
site = root/'_docs'

# The worst contrast between a text and what lies behind it (WCAG ratio), and where
FAINT = '''(() => {
  const known = new Map(), rgb = s => { if (!known.has(s)) { const c = document.createElement("canvas").getContext("2d"); c.fillStyle = s;
    c.fillRect(0,0,1,1); known.set(s, [...c.getImageData(0,0,1,1).data]); } return known.get(s); };
  const lum = c => [0,1,2].map(i => { const v = c[i]/255; return v <= .03928 ? v/12.92 : ((v+.055)/1.055)**2.4; }).reduce((a,v,i) => a+v*[.2126,.7152,.0722][i], 0);
  const behind = e => { for (; e; e = e.parentElement) { const c = rgb(getComputedStyle(e).backgroundColor); if (c[3] > 128) return c; } return [255,255,255,255]; };
  let worst = [99, ""], seen = new Map();
  for (const e of document.querySelectorAll("main *, #quarto-sidebar *, #TOC *, .navbar *")) {
    if (![...e.childNodes].some(n => n.nodeType == 3 && n.data.trim()) || !e.offsetParent) continue;
    const fg = getComputedStyle(e).color, bg = behind(e), key = fg+bg;
    if (!seen.has(key)) { const a = lum(rgb(fg)), b = lum(bg); seen.set(key, (Math.max(a,b)+.05)/(Math.min(a,b)+.05)); }
    if (seen.get(key) < worst[0]) worst = [seen.get(key), e.tagName+"."+e.className+": "+e.textContent.trim().slice(0,30)+" "+fg];
  }
  return worst; })()'''

def chromium()->str: return next(filter(None, map(shutil.which, ('chromium','chromium-browser','google-chrome','chrome'))), None)

class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_): pass

class Browser:
    "One tab of a headless Chromium, over its debugging protocol"
    def __init__(self):
        self.dir = tempfile.mkdtemp(prefix='look-')
        self.p = subprocess.Popen([chromium(), '--headless=new', '--no-sandbox', '--disable-gpu', '--hide-scrollbars', '--no-first-run', '--disable-dev-shm-usage',
            '--remote-debugging-port=0', '--remote-allow-origins=*', f'--user-data-dir={self.dir}', 'about:blank'], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        port = Path(self.dir)/'DevToolsActivePort'
        for _ in range(300):
            if port.exists() and port.read_text().count('\n'): break
            time.sleep(.1)
        tabs = json.load(urllib.request.urlopen(f'http://127.0.0.1:{port.read_text().split()[0]}/json'))
        self.ws = websocket.create_connection(next(t for t in tabs if t['type']=='page')['webSocketDebuggerUrl'], timeout=60, suppress_origin=True)
        self.n, self.events = 0, []
        for d in ('Page','Runtime','Log','Network'): self(d+'.enable')
    def __call__(self, method, **params):
        self.n += 1
        self.ws.send(json.dumps(dict(id=self.n, method=method, params=params)))
        while True:
            m = json.loads(self.ws.recv())
            if m.get('id')==self.n: return m.get('result', m)
            self.events.append(m)
    def js(self, code):
        r = self('Runtime.evaluate', expression=code, awaitPromise=True, returnByValue=True)
        return r['result'].get('value', r.get('exceptionDetails'))
    def until(self, code, seconds=10):
        end = time.time()+seconds
        while time.time()<end:
            if r := self.js(code): return r
            time.sleep(.05)
        return None
    def go(self, url):
        self.events.clear()
        self.js('window.left = true') # the same address again is another page
        self('Page.navigate', url=url)
        self.until(f'!window.left && document.readyState=="complete" && location.href.split("#")[0]=={json.dumps(url)}')
        time.sleep(.15) # the theme script waits 50 ms
    def troubles(self)->list[str]:
        out, urls = [], {}
        for e in self.events:
            p = e.get('params', {})
            if e['method']=='Network.requestWillBeSent':
                urls[p['requestId']] = u = p['request']['url']
                if not u.startswith(('http://127.0.0.1','file:','data:','blob:','about:')): out.append(f'asks another machine: {u[:100]}')
            if e['method']=='Network.loadingFailed' and not p.get('canceled'): out.append(f"request failed: {urls.get(p['requestId'])} {p['errorText']}")
            if e['method']=='Network.responseReceived' and p['response']['status']>=400: out.append(f"{p['response']['status']}: {p['response']['url']}")
            if e['method']=='Runtime.exceptionThrown': out.append('script error: '+str(p['exceptionDetails'].get('exception', {}).get('description'))[:200])
            if e['method']=='Runtime.consoleAPICalled' and p['type'] in ('error','warning'): out.append('console: '+str(p['args'])[:200])
            if e['method']=='Log.entryAdded' and p['entry']['level']=='error': out.append(f"log: {p['entry']['text'][:150]} {p['entry'].get('url','')}")
        return out
    def size(self, width, height=1000): self('Emulation.setDeviceMetricsOverride', width=width, height=height, deviceScaleFactor=1, mobile=False)
    def theme(self, name): self('Emulation.setEmulatedMedia', features=[dict(name='prefers-color-scheme', value=name)])
    def shot(self, whole=False):
        if whole: self.size(1350, min(12000, max(1000, self.js('document.documentElement.scrollHeight'))))
        png = base64.b64decode(self('Page.captureScreenshot', format='png')['data'])
        self.size(1350)
        return png
    def close(self):
        self.p.terminate(); self.p.wait(10); shutil.rmtree(self.dir, ignore_errors=True)

def look(b:Browser, url:str, theme:str, shots:Path)->list[str]:
    "What is wrong with one page in one theme"
    b.theme(theme); b.size(1350); b.go(url)
    out = b.troubles()
    png = b.shot(whole=bool(shots))
    if shots: (shots/f"{url.rsplit('/',1)[-1].removesuffix('.html')}-{theme}.png").write_bytes(png)
    a = np.asarray(Image.open(io.BytesIO(png)).convert('L'))
    if a.std()<5: out.append('blank')
    if (np.median(a)<128)!=(theme=='dark'): out.append(f'not {theme}: median grey {np.median(a):.0f}')
    ratio, where = b.js(FAINT)
    if ratio<3: out.append(f'faint text, contrast {ratio:.1f}: {where}')
    if n := b.js('[...document.images].filter(i => !i.complete || !i.naturalWidth).length'): out.append(f'{n} pictures do not show')
    for w in (1350, 390):
        b.size(w); time.sleep(.05)
        if (wide := b.js('document.documentElement.scrollWidth'))>w+1: out.append(f'{wide} px wide in a window of {w}')
    b.size(1350)
    return out

def search(b:Browser, url:str, word:str)->list[str]:
    "Type `word` into the search box, follow the first result"
    b.theme('light'); b.size(1350); b.go(url)
    b.js('document.querySelector("#quarto-search input").focus()')
    b('Input.insertText', text=word)
    if not b.until('document.querySelectorAll(".search-result").length'): return [f'no result for {word!r}', *b.troubles()]
    to = b.js('document.querySelector(".search-result").href')
    b.js('document.querySelector(".search-result").click()')
    if not b.until(f'location.href=={json.dumps(to)}'): return [f'the first result for {word!r} leads nowhere: {to}']
    if not b.until('!location.hash || !!document.getElementById(decodeURIComponent(location.hash.slice(1)))'): return [f'no such place: {to}']
    return b.troubles()

def toggle(b:Browser, url:str)->list[str]:
    "Does the button change the theme, and does the next page remember?"
    b.theme('light'); b.go(url)
    dark = 'document.documentElement.classList.contains("quarto-dark") || document.body.classList.contains("quarto-dark")'
    before = b.js(dark)
    b.js('document.querySelector(".quarto-color-scheme-toggle").click()')
    if not b.until(f'({dark})!={json.dumps(before)}'): return ['the toggle changes nothing']
    b.go(url)
    kept = b.js(dark)
    b.js('localStorage.clear()')
    return [] if kept!=before else ['the choice is forgotten on the next page']

def first_screen(b:Browser, url:str)->list[str]:
    "Does the start page say what this is and show the map before anybody scrolls, on a desk and on a phone?"
    out = []
    b.theme('light'); b.go(url)
    for w,h in ((1350,900),(390,844)):
        b.size(w, h); time.sleep(.05)
        text, top, bottom = b.js("""(() => { const p = document.querySelector("main.content > p, main.content > section > p"), i = document.querySelector("main.content img");
          return [p ? p.getBoundingClientRect().bottom : 1e9, ...(i ? [i.getBoundingClientRect().top, i.getBoundingClientRect().bottom] : [1e9, 1e9+1])]; })()""")
        seen = max(0, min(bottom, h)-max(top, 0))/max(1, bottom-top)
        if text>h: out.append(f'the first paragraph ends at {text:.0f} px of {h} in a window of {w}')
        if seen<.6: out.append(f'{seen:.0%} of the height of the map are on the first screen of {w} x {h}')
    b.size(1350)
    return out

def main()->int:
    ap = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    ap.add_argument('--shots', type=Path, help='folder for screenshots of whole pages')
    ap.add_argument('--only', default='*')
    a = ap.parse_args()
    if not chromium(): print('no Chromium on this machine: the look at the pages is left out\n0 passed, 0 failed'); return 0
    if a.shots: a.shots.mkdir(parents=True, exist_ok=True)
    server = ThreadingHTTPServer(('127.0.0.1', 0), functools.partial(Quiet, directory=site))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    base = f'http://127.0.0.1:{server.server_port}/'
    pages = [p for p in sorted(site.rglob('*.html')) if 'site_libs' not in p.parts and fnmatch(p.name, a.only)]
    b, passed, failed = Browser(), 0, 0
    try:
        jobs = [(f'{p.relative_to(site)} {t}', functools.partial(look, b, base+p.relative_to(site).as_posix(), t, a.shots)) for p in pages for t in ('light','dark')]
        jobs += [('search', lambda: search(b, base+'index.html', 'temperature')), ('search from file://', lambda: search(b, (site/'index.html').as_uri(), 'temperature')),
                 ('first screen', lambda: first_screen(b, base+'index.html')),
                 ('theme toggle', lambda: toggle(b, base+'index.html'))]
        for name,f in jobs:
            bad = f()
            passed, failed = passed+(not bad), failed+bool(bad)
            if bad: print(f'FAILED  {name}', *bad, sep='\n    ', flush=True)
    finally: b.close(); server.shutdown()
    print(f'{passed} passed, {failed} failed')
    return int(bool(failed))

if __name__ == '__main__': sys.exit(main())
