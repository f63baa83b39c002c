"""The page in a real browser: a picture goes in, a larger one comes out, or a sentence why not."""

import base64
import json
import threading
import time

import pytest
import uvicorn
from PIL import Image
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.keys import Keys

from tests.conftest import scene
from tests.serving.conftest import InProcess, free_port
from tests.serving.fakes import encoded
from tests.serving.pages import at, give, open_with, wait
from tudsr.client import Client, ServiceError


def test_a_chosen_picture_comes_back_larger(page, tmp_path):
    picture = tmp_path / "holiday.png"
    Image.fromarray(scene(1, 32)).save(picture)
    wait(page, lambda: "bundle" in at(page, "model").text)
    give(page, picture)
    wait(page, lambda: "128 × 128" in at(page, "size").text)
    at(page, "go").click()
    wait(page, lambda: at(page, "made").text == "128 × 128 pixels")
    wait(page, lambda: at(page, "after").get_property("naturalWidth") == 128)
    wait(page, lambda: at(page, "before").get_property("naturalWidth") == 32)
    assert at(page, "save").get_attribute("download") == "holiday-x4.png"


def _drop(page, path) -> None:
    """As the browser gets it from the window system; it drops only where the page allows it."""
    carried = {"items": [], "files": [str(path)], "dragOperationsMask": 1}
    here = page.execute_script(
        "const r = document.getElementById('drop').getBoundingClientRect(); return [r.x, r.y]"
    )
    for kind in ("dragEnter", "dragOver", "drop"):
        place = {"type": kind, "x": here[0] + 20, "y": here[1] + 20, "data": carried}
        page.execute_cdp_cmd("Input.dispatchDragEvent", place)
        if kind == "dragOver":
            wait(page, lambda: at(page, "drop").get_attribute("class") == "over")


def _paste(page, path) -> None:
    """From the clipboard, by Ctrl-V."""
    permissions = {"permissions": ["clipboardReadWrite", "clipboardSanitizedWrite"]}
    page.execute_cdp_cmd("Browser.grantPermissions", permissions)
    copy = """
    const [encoded, done] = arguments;
    const bytes = Uint8Array.from(atob(encoded), c => c.charCodeAt(0));
    const item = new ClipboardItem({"image/png": new Blob([bytes], {type: "image/png"})});
    navigator.clipboard.write([item]).then(() => done(""), error => done(String(error)));
    """
    assert page.execute_async_script(copy, base64.b64encode(path.read_bytes()).decode()) == ""
    ActionChains(page).key_down(Keys.CONTROL).send_keys("v").key_up(Keys.CONTROL).perform()


@pytest.mark.parametrize("bring", [_drop, _paste])
def test_a_picture_can_be_dropped_and_pasted(page, tmp_path, bring):
    page.refresh()
    wait(page, lambda: "bundle" in at(page, "model").text)
    picture = tmp_path / "brought.png"
    Image.fromarray(scene(5, 20)).save(picture)
    bring(page, picture)
    wait(page, lambda: "80 × 80" in at(page, "size").text)
    name = "brought" if bring is _drop else "image"
    assert at(page, "name").text == f"{name}.png"
    assert not at(page, "drop").get_attribute("class")
    at(page, "go").click()
    wait(page, lambda: at(page, "made").text == "80 × 80 pixels")
    assert at(page, "save").get_attribute("download") == f"{name}-x4.png"


def _colours(page, name: str) -> list[int]:
    """RGBA of a shown picture's pixels, one after the other."""
    script = """
    const image = document.getElementById(arguments[0]), canvas = document.createElement("canvas");
    [canvas.width, canvas.height] = [image.naturalWidth, image.naturalHeight];
    const context = canvas.getContext("2d");
    context.drawImage(image, 0, 0);
    return Array.from(context.getImageData(0, 0, canvas.width, canvas.height).data);
    """
    return page.execute_script(script, name)


def test_the_control_of_fidelity_decides_the_result(page, tmp_path):
    page.refresh()
    wait(page, lambda: at(page, "fidelity-told").text == "1.0, generated")
    picture = tmp_path / "faithful.png"
    Image.fromarray(scene(6, 24)).save(picture)
    made = {}
    for key, told in ((Keys.END, "1.0, generated"), (Keys.HOME, "0.0, as it was")):
        at(page, "fidelity").send_keys(key)
        assert at(page, "fidelity-told").text == told
        give(page, picture)
        wait(page, lambda: "96 × 96" in at(page, "size").text)
        at(page, "go").click()
        wait(page, lambda: at(page, "made").text == "96 × 96 pixels")
        wait(page, lambda: at(page, "after").get_property("naturalWidth") == 96)
        made[told] = _colours(page, "after")
    assert len({tuple(pixels) for pixels in made.values()}) == 2
    at(page, "fidelity").send_keys(Keys.ARROW_RIGHT * 3)
    wait(page, lambda: at(page, "fidelity-told").text == "0.3, faithful")


def test_a_connection_that_breaks_off_costs_nothing(page, tmp_path):
    """A phone is locked, a network changes, the service is started anew: the job goes on."""
    open_with(page, tmp_path / "tunnel.png", scene(10, 48))
    page.execute_script(
        "const there = window.fetch; window.lost = 0;"
        "window.fetch = (path, how) => /jobs\\/[^/]+/.test(path) && window.lost++ < 3"
        " ? Promise.reject(new TypeError('Failed to fetch')) : there(path, how)"
    )
    at(page, "go").click()
    wait(page, lambda: "asking again" in at(page, "state").text)
    wait(page, lambda: at(page, "made").text == "192 × 192 pixels")
    assert not at(page, "error").is_displayed()


def _kept(page, job: str) -> None:
    """Load the page anew as one that had begun a job."""
    asked = {"id": job, "asked": {"scale": "4", "format": "png", "name": "again.jpg"}}
    page.execute_script("sessionStorage.setItem('job', arguments[0])", json.dumps(asked))
    page.refresh()


def test_a_page_loaded_anew_goes_on_with_its_job(page, server):
    """Without the picture as it was, which is no longer at hand."""
    job = Client(server.url).submit(encoded(scene(11, 100)), scale=4, format="png")
    _kept(page, job)
    wait(page, lambda: at(page, "made").text == "400 × 400 pixels")
    wait(page, lambda: at(page, "after").get_property("naturalWidth") == 400)
    assert at(page, "save").get_attribute("download") == "again-x4.png"
    assert not at(page, "slide").is_displayed() and not at(page, "before").is_displayed()
    wait(page, lambda: at(page, "file").is_enabled())
    assert page.execute_script("return sessionStorage.getItem('job')") is None
    with pytest.raises(ServiceError, match="no such job"):
        for _ in range(100):
            Client(server.url).job(job)
            time.sleep(0.1)


def test_a_page_loaded_anew_says_that_its_job_is_gone_and_forgets_it(page):
    _kept(page, "0" * 32)
    wait(page, lambda: "no longer has again.jpg" in at(page, "error").text)
    assert page.execute_script("return sessionStorage.getItem('job')") is None
    page.refresh()
    wait(page, lambda: "bundle" in at(page, "model").text)
    assert not at(page, "error").is_displayed() and not at(page, "work").is_displayed()


def test_a_begun_job_is_kept_by_the_page_until_its_result_is_there(page, tmp_path):
    """Whatever else happens to the page meanwhile, such as an answer that makes no sense."""
    open_with(page, tmp_path / "kept.png", scene(12, 24))
    page.execute_script(
        "const there = window.fetch; window.fetch = (path, how) => path.endsWith('/result')"
        " ? Promise.resolve(new Response('{}', {status: 500})) : there(path, how)"
    )
    at(page, "go").click()
    wait(page, lambda: "answered 500" in at(page, "error").text)
    assert page.execute_script("return sessionStorage.getItem('job')")
    page.refresh()
    wait(page, lambda: at(page, "made").text == "96 × 96 pixels")


def test_a_text_file_is_refused_with_the_services_sentence(page, tmp_path):
    fake = tmp_path / "fake.png"
    fake.write_text("this is no picture")
    give(page, fake)
    wait(page, lambda: at(page, "go").is_enabled())
    at(page, "go").click()
    wait(page, lambda: "is not a" in at(page, "error").text)
    assert at(page, "error").text.endswith(".")
    assert not at(page, "result").is_displayed()


def test_work_can_be_stopped(page, tmp_path):
    picture = tmp_path / "long.png"
    Image.fromarray(scene(3, 500)).save(picture)
    give(page, picture)
    wait(page, lambda: "2,000 × 2,000" in at(page, "size").text or at(page, "go").is_enabled())
    at(page, "go").click()
    wait(page, lambda: at(page, "stop").is_displayed())
    at(page, "stop").click()
    wait(page, lambda: not at(page, "work").is_displayed(), 20)
    wait(page, lambda: at(page, "go").is_enabled())
    assert not at(page, "error").is_displayed()


def test_without_jobs_the_page_waits_for_the_answer(page, bundle, tmp_path):
    service = InProcess(bundle, tmp_path / "state", max_jobs=0)
    port = free_port()
    web = uvicorn.Server(uvicorn.Config(service.client.app, port=port, log_level="error"))
    thread = threading.Thread(target=web.run, daemon=True)
    thread.start()
    picture = tmp_path / "plain.png"
    Image.fromarray(scene(4, 32)).save(picture)
    try:
        wait(page, lambda: web.started)
        before = page.current_url
        page.get(f"http://127.0.0.1:{port}")
        wait(page, lambda: "bundle" in at(page, "model").text)
        give(page, picture)
        wait(page, lambda: "128 × 128" in at(page, "size").text)
        at(page, "go").click()
        wait(page, lambda: at(page, "made").text == "128 × 128 pixels")
        page.get(before)
    finally:
        web.should_exit = True
        thread.join(20)
        service.close()


def test_nothing_is_asked_of_another_machine_and_no_script_fails(page):
    asked = page.execute_script(
        "return performance.getEntriesByType('resource').map(e => new URL(e.name).host)"
    )
    assert set(asked) <= {page.execute_script("return location.host"), ""}
    severe = [e for e in page.get_log("browser") if e["level"] == "SEVERE"]
    assert all("v1/jobs" in e["message"] for e in severe), severe
