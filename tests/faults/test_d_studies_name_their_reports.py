"""D: a study says of each report what was asked of whom, how many samples, by which grader, when and how."""

import json

from made_reports import make_report

from relope.evaluate.studies.inputs import StudyRequest
from relope.evaluate.studies.make import make_study


def test_d_a_study_names_n_grader_date_and_command_of_its_reports(tmp_path):
    told = {"grader": "auto@3.5", "date": "2026-01-02T03:04:05+00:00", "command": "relope evaluate --store a.zarr"}
    make_report(tmp_path / "a", model="small", dataset="aokvqa", **told)
    make_report(tmp_path / "old", model="small", dataset="mmmu", prefix="m")
    make_study(StudyRequest("table2", (str(tmp_path),), bootstrap=100), tmp_path / "study")
    page = (tmp_path / "study" / "study.html").read_text()
    said = f"small on aokvqa; n = 160; by auto@3.5; made {told['date']}; {told['command']}</dd>"
    assert f"<dt>{tmp_path / 'a'}</dt><dd>{said}" in page and "<dd>small on mmmu; n = 160</dd>" in page
    reports = {report["data"]: report for report in json.loads((tmp_path / "study/study.json").read_text())["reports"]}
    assert reports["aokvqa"] == reports["aokvqa"] | told and reports["mmmu"]["grader"] is None
