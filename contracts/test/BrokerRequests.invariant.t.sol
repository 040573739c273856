// SPDX-License-Identifier: AGPL-3.0-or-later
pragma solidity ^0.8.28;

import {BrokerRequests} from "../src/BrokerRequests.sol";
import {IBrokerRequests} from "../src/interfaces/IBrokerRequests.sol";
import {PlainNft} from "./Nfts.sol";
import {Test} from "./Test.sol";

/// @dev Everyone around one BrokerRequests: five hosts, three of them in one hand, a broker and passers-by, who do what
/// they may and what they may not. It keeps its own account of what must come of it.
contract Everyone is Test {
    IBrokerRequests.RequestStatus private constant PENDING = IBrokerRequests.RequestStatus.Pending;
    IBrokerRequests.RequestStatus private constant APPROVED = IBrokerRequests.RequestStatus.Approved;
    IBrokerRequests.RequestStatus private constant EXPIRED = IBrokerRequests.RequestStatus.Expired;

    struct Expected {
        address nftContract;
        address requester;
        bytes32 payloadHash;
        bytes32 responseHash;
        bytes32 digest;
        IBrokerRequests.RequestStatus status;
        uint256 submittedAt;
        uint256 respondedAt;
    }

    BrokerRequests public requests;
    PlainNft[5] public nfts;
    Expected[] public expected;
    uint256 public released;
    uint256 public paid;
    uint256 public withdrawn;
    address payable private _bank = payable(_wallet("bank"));

    constructor() {
        requests = new BrokerRequests();
        for (uint256 i = 0; i < 5; i++) {
            nfts[i] = new PlainNft(_wallet(i < 3 ? "host" : i == 3 ? "second host" : "third host"));
        }
    }

    function count() external view returns (uint256) {
        return expected.length;
    }

    function get(uint256 id) external view returns (Expected memory) {
        return expected[id - 1];
    }

    // ---- what hosts do

    function submit(uint256 which, uint256 seed, bool paysRight) external {
        // Several at once, as without requests there is little to do.
        for (uint256 i = 0; i <= seed % 4; i++) {
            _submit(nfts[(which % 5 + i) % 5], seed ^ i, paysRight);
        }
    }

    function releaseByHost(uint256 which, uint256 by) external {
        _release(nfts[which % 5], nfts[by % 5].owner());
    }

    function sell(uint256 which, uint256 to) external {
        nfts[which % 5].setOwner(nfts[to % 5].owner());
    }

    // ---- what the broker does

    function respond(uint256 seed, uint256 which) external {
        uint256 id = _someId(which);
        bytes memory response = _bytes(seed, _bound(seed, 1, 500));
        bool mustPass = _isAnswerable(id);
        (bool ok,) = address(requests).call(abi.encodeCall(IBrokerRequests.submitResponse, (id, response)));
        vm.assertEq(ok ? 1 : 0, mustPass ? 1 : 0, "submitResponse");
        if (ok) _approve(id, response);
    }

    function respondMany(uint256 seed, uint256 length, uint256 tampered) external {
        length = _bound(length, 0, 8);
        uint256[] memory ids = new uint256[](length);
        bytes32[] memory digests = new bytes32[](length);
        bytes[] memory responses = new bytes[](length);
        for (uint256 i = 0; i < length; i++) {
            ids[i] = _someId(uint256(keccak256(abi.encode(seed, i))));
            bool known = ids[i] != 0 && ids[i] <= expected.length;
            if (known && tampered >> i & 1 == 0) digests[i] = requests.requestDigest(ids[i]);
            // Long ones now and then, so that one data contract is not enough.
            responses[i] = _bytes(seed ^ i, tampered % 3 == 0 ? 4096 : 277);
        }
        requests.submitResponses(ids, digests, responses);
        for (uint256 i = 0; i < length; i++) {
            if (digests[i] != 0 && _isAnswerable(ids[i])) _approve(ids[i], responses[i]);
        }
    }

    function releaseByBroker(uint256 which) external {
        _release(nfts[which % 5], address(this));
    }

    function releaseOne(uint256 which) external {
        uint256 id = _someId(which);
        bool mustPass = id != 0 && id <= expected.length && expected[id - 1].status != EXPIRED;
        (bool ok,) = address(requests).call(abi.encodeCall(IBrokerRequests.releaseRequest, (id)));
        vm.assertEq(ok ? 1 : 0, mustPass ? 1 : 0, "releaseRequest");
        if (!ok) return;
        _end(id);
        released++;
    }

    function configure(uint256 capacity, uint256 fee, uint256 expirationTime) external {
        requests.setTotalCapacity(_bound(capacity, 0, 6));
        requests.setRequestFee(_bound(fee, 0, 3));
        requests.setRequestExpirationTime(_bound(expirationTime, 1 hours, 7 days));
    }

    function withdraw() external {
        withdrawn += address(requests).balance;
        requests.withdraw(_bank);
    }

    // ---- what anyone does

    function markExpired(uint256 first, uint256 second) external {
        uint256[] memory ids = new uint256[](3);
        (ids[0], ids[1], ids[2]) = (_someId(first), _someId(second), _someId(first));
        requests.markExpired(ids);
        for (uint256 i = 0; i < 3; i++) {
            bool pending = ids[i] != 0 && ids[i] <= expected.length && expected[ids[i] - 1].status == PENDING;
            if (pending && !_isAnswerable(ids[i])) _end(ids[i]);
        }
    }

    function wait_(uint256 time) external {
        vm.warp(block.timestamp + _bound(time, 1, 30 hours));
    }

    // ---- the account

    function _submit(PlainNft nft, uint256 seed, bool paysRight) private {
        bytes memory payload = _bytes(seed, _bound(seed, 1, 600));
        uint256 fee = requests.requestFee();
        uint256 value = paysRight ? fee : fee + 1;
        uint256 previous = requests.nftContractToRequestId(address(nft));
        bool mustPass = paysRight && (previous != 0 || requests.getAvailableCapacity() > 0);
        address requester = nft.owner();
        vm.deal(requester, value);
        vm.prank(requester);
        (bool ok,) =
            address(requests).call{value: value}(abi.encodeCall(IBrokerRequests.submitRequest, (address(nft), payload)));
        vm.assertEq(ok ? 1 : 0, mustPass ? 1 : 0, "submitRequest");
        if (!ok) return;
        paid += value;
        if (previous != 0) _end(previous);
        Expected memory e;
        e.nftContract = address(nft);
        e.requester = requester;
        e.payloadHash = keccak256(payload);
        e.digest = requests.requestDigest(expected.length + 1);
        e.submittedAt = block.timestamp;
        expected.push(e);
    }

    function _release(PlainNft nft, address by) private {
        uint256 id = requests.nftContractToRequestId(address(nft));
        bool mustPass = id != 0 && (by == address(this) || by == nft.owner());
        vm.prank(by);
        (bool ok,) = address(requests).call(abi.encodeCall(IBrokerRequests.releaseAllocation, (address(nft))));
        vm.assertEq(ok ? 1 : 0, mustPass ? 1 : 0, "releaseAllocation");
        if (!ok) return;
        _end(id);
        released++;
    }

    function _approve(uint256 id, bytes memory response) private {
        Expected storage e = expected[id - 1];
        e.status = APPROVED;
        e.responseHash = keccak256(response);
        e.respondedAt = block.timestamp;
    }

    function _end(uint256 id) private {
        expected[id - 1].status = EXPIRED;
        expected[id - 1].respondedAt = block.timestamp;
    }

    function _isAnswerable(uint256 id) private view returns (bool) {
        if (id == 0 || id > expected.length || expected[id - 1].status != PENDING) return false;
        return block.timestamp <= expected[id - 1].submittedAt + requests.requestExpirationTime();
    }

    /// @dev An id, of a recent request most of the time; 0 and the one after the last too.
    function _someId(uint256 seed) private view returns (uint256) {
        uint256 length = expected.length;
        return seed % 8 == 0 ? 0 : length + 1 - (seed / 8) % (length < 8 ? length + 1 : 8);
    }
}

contract BrokerRequestsInvariantTest is Test {
    IBrokerRequests.RequestStatus private constant PENDING = IBrokerRequests.RequestStatus.Pending;
    IBrokerRequests.RequestStatus private constant APPROVED = IBrokerRequests.RequestStatus.Approved;

    Everyone private _everyone;
    BrokerRequests private _requests;

    function setUp() external {
        vm.warp(1_770_000_000);
        _everyone = new Everyone();
        _requests = _everyone.requests();
        bytes4[] memory selectors = new bytes4[](11);
        selectors[0] = Everyone.submit.selector;
        selectors[1] = Everyone.withdraw.selector;
        selectors[2] = Everyone.respond.selector;
        selectors[3] = Everyone.respondMany.selector;
        selectors[4] = Everyone.releaseByHost.selector;
        selectors[5] = Everyone.releaseByBroker.selector;
        selectors[6] = Everyone.releaseOne.selector;
        selectors[7] = Everyone.markExpired.selector;
        selectors[8] = Everyone.wait_.selector;
        selectors[9] = Everyone.configure.selector;
        selectors[10] = Everyone.sell.selector;
        _target(address(_everyone), selectors);
    }

    function invariant_oneLiveRequestPerNft() external view {
        for (uint256 i = 0; i < 5; i++) {
            address nft = address(_everyone.nfts(i));
            uint256 mapped = _requests.nftContractToRequestId(nft);
            uint256 live = 0;
            for (uint256 id = 1; id <= _everyone.count(); id++) {
                IBrokerRequests.Request memory r = _requests.getRequest(id);
                bool isLive = r.status == PENDING || r.status == APPROVED;
                if (r.nftContract != nft || !isLive) continue;
                live++;
                vm.assertEq(mapped, id, "the mapping names the live one");
            }
            vm.assertEq(live, mapped == 0 ? 0 : 1, "one, or none and no mapping");
        }
    }

    function invariant_countersEqualTheRequestsInEachState() external view {
        uint256[4] memory inState;
        for (uint256 id = 1; id <= _everyone.count(); id++) {
            inState[uint256(_requests.getRequest(id).status)]++;
        }
        vm.assertEq(_requests.getRequestCount(), _everyone.count(), "all");
        vm.assertEq(_requests._pendingCount(), inState[0], "pending");
        vm.assertEq(_requests._activeCount(), inState[1], "active");
        vm.assertEq(inState[2], 0, "never Rejected");
        vm.assertEq(_requests.releaseCount(), _everyone.released(), "released");
    }

    function invariant_requestsAreAsTheirPartiesMadeThem() external view {
        for (uint256 id = 1; id <= _everyone.count(); id++) {
            IBrokerRequests.Request memory r = _requests.getRequest(id);
            Everyone.Expected memory e = _everyone.get(id);
            vm.assertEq(r.id, id, "id");
            vm.assertEq(r.nftContract, e.nftContract, "nftContract");
            vm.assertEq(r.requester, e.requester, "requester");
            vm.assertEq(uint256(r.status), uint256(e.status), "status");
            vm.assertEq(keccak256(r.encryptedPayload), e.payloadHash, "payload");
            bytes32 responseHash = r.responsePayload.length == 0 ? bytes32(0) : keccak256(r.responsePayload);
            vm.assertEq(responseHash, e.responseHash, "response");
            vm.assertEq(r.submittedAt, e.submittedAt, "submittedAt");
            vm.assertEq(r.respondedAt, e.respondedAt, "respondedAt");
            vm.assertEq(_requests.requestDigest(id), e.digest, "digest");
        }
    }

    function invariant_balanceIsFeesLessWithdrawn() external view {
        vm.assertEq(address(_requests).balance, _everyone.paid() - _everyone.withdrawn(), "wei");
    }
}
